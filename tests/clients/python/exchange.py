"""One exchange through the relay with `websockets`, on both legs.

Usage: exchange.py ws[s]://HOST:PORT. Prints one `ok` line per check; exits with 1 at the first that fails.
"""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

RELAY = sys.argv[1]
SERVER_ID = f"python-{os.getpid()}"


def ok(what):
    print("ok", what, flush=True)


async def dial(path, user_agent, headers):
    """Connects, offering permessage-deflate as the library does by default."""
    peer = await connect(
        RELAY + path,
        additional_headers=headers,
        user_agent_header=user_agent,
        compression="deflate",
        proxy=None,
    )
    assert "permessage-deflate" in peer.request.headers["Sec-WebSocket-Extensions"]
    assert "Sec-WebSocket-Extensions" not in peer.response.headers
    assert "Sec-WebSocket-Protocol" not in peer.response.headers
    assert peer.subprotocol is None and not peer.protocol.extensions
    return peer


async def daemon():
    headers = {"x-pyrycode-server": SERVER_ID, "x-pyrycode-version": "1.0.0"}
    return await dial("/v1/server", "pyry/1.0.0", headers)


async def phone(server_id=SERVER_ID):
    headers = {
        "x-pyrycode-server": server_id,
        "x-pyrycode-token": "phone-token-6f1c02",
        "x-pyrycode-device-name": "python",
    }
    return await dial("/v1/client", "app/1.0.0", headers)


async def text(peer):
    message = await peer.recv()
    assert isinstance(message, str), f"a text message: {message!r}"
    return message


async def closed(peer):
    """The close code and reason, after a complete handshake that the relay began."""
    try:
        raise AssertionError(f"expected a close, got {await peer.recv()!r}")
    except ConnectionClosed as end:
        assert end.rcvd is not None and end.sent is not None, "a complete close handshake"
        assert end.rcvd_then_sent, "the relay closed first"
        return end.rcvd.code, end.rcvd.reason


async def exchange():
    holder = await daemon()
    ok("a daemon is accepted, nothing negotiated")
    guest = await phone()
    ok("a phone that offers permessage-deflate is accepted, nothing negotiated")

    hello = '{"v":2,"type":"noise_init","data":"opaque-1"}'
    await guest.send(hello)
    first = json.loads(await text(holder))
    assert list(first) == ["conn_id", "frame"] and first["frame"] == json.loads(hello)
    conn_id = first["conn_id"]
    ok("a frame reaches the daemon as text")

    answer = '{ "v":2, "type":"noise_resp","data":"opaque-2" }'
    await holder.send(f'{{"conn_id":"{conn_id}","frame":{answer}}}')
    assert await text(guest) == answer
    ok("the answer reaches the phone as text")

    large = json.dumps("opaque-" + "x" * 87_500)
    for _ in range(50):
        await guest.send(large)
        await holder.send(f'{{"conn_id":"{conn_id}","frame":{large}}}')
        assert json.dumps(json.loads(await text(holder))["frame"]) == large
        assert await text(guest) == large
    ok("fifty large frames each way")

    await holder.send(f'{{"conn_id":"{conn_id}","frame":{{"bye":1}},"close_code":4401}}')
    assert await text(guest) == '{"bye":1}'
    assert await closed(guest) == (4401, "")
    ok("a directive delivers its frame, then closes 4401 without a reason")

    leaver = await phone()
    # As fragments, for which the library has a call of its own.
    await leaver.send(["[1", ",2", "]"])
    noticed = json.loads(await text(holder))
    assert noticed["frame"] == [1, 2]
    await leaver.close(1000)
    assert leaver.close_code == 1000
    assert await text(holder) == f'{{"conn_id":"{noticed["conn_id"]}","close_code":1000}}'
    ok("a phone that leaves is noticed")

    assert await closed(await phone(SERVER_ID + "-nobody")) == (4404, "no server with that id")
    ok("a phone without a daemon is closed 4404")

    assert await closed(await daemon()) == (4409, "server-id already claimed")
    ok("a second daemon is closed 4409")
    await holder.close()


asyncio.run(asyncio.wait_for(exchange(), 30))
