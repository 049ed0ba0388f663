# What contributors do. `just` alone lists it.

_list:
    @just --list

# A daemon and three phones through a relay, live, in under 20 seconds
demo:
    cargo run --release --locked -- demo

# Everything that must pass before a push; what CI runs
ci:
    .ci/run

# All tests; arguments pick some: just test grace
test *args:
    scripts/test {{args}}

# Which lines of crates/ the tests reach, into target/coverage/report; some 25 minutes
coverage *args:
    scripts/coverage {{args}}

# Autobahn's cases against the codec and the session loop
autobahn:
    cargo build --locked -p pyrycode-relay --example echo
    scripts/autobahn target/debug/examples/echo

# The Debian package, into target/packages/
package:
    scripts/package

# Everything under packaging/: units, manifests, the image's layout, the package in a minimal Debian
check-packaging:
    scripts/check-packaging

# Format everything
fmt:
    cargo fmt --all

# Lints, docs and licences
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
    scripts/deny

# Fuzz one target, or all, for a while: just fuzz envelope 60
fuzz target seconds="60":
    scripts/fuzz {{target}} {{seconds}}

# The relay and its clients in a simulated network: just sim --seeds 1000, or just sim --seed 7 to see what happened
sim *args:
    cargo run --quiet --locked -p relay-sim -- {{args}}

# The built relay while processes die, cables are cut, descriptors, memory and disk run out, and clocks jump
chaos *args:
    cargo build --quiet --locked -p pyrycode-relay --bins
    cargo run --quiet --locked -p relay-chaos -- {{args}}

# A mixed load: just soak --minutes 120 --relay target/release/pyrycode-relay
soak *args:
    cargo build --quiet --locked -p pyrycode-relay --bins
    cargo run --quiet --locked -p relay-chaos -- soak {{args}}

# Figures of this machine beside a bare TCP forwarder and their targets: just bench --quick --html report.html
bench *args:
    cargo build --release --locked -p pyrycode-relay -p relay-bench
    target/release/relay-bench --relay target/release/pyrycode-relay {{args}}

# Where the relay's processor time goes, as flame graphs in docs/images: just flame, or just flame 65536 lives
flame *loads:
    scripts/flame {{loads}}

# Allocations and system calls of each frame: just counts, or just counts lives
counts *loads:
    scripts/counts {{loads}}

# Serve as behind a reverse proxy
serve *args:
    cargo run --release --locked -- --insecure-listen 127.0.0.1:8080 {{args}}
