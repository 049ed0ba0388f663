//! The closed sets of label values. Nothing a peer sent can become one.

/// A label: its name, and every value it can have.
pub trait Label: Copy + PartialEq + 'static {
    /// Its name in the exposition.
    const NAME: &'static str;
    /// Every value once, in the order of [`Self::index`].
    const ALL: &'static [Self];

    /// The position in [`Self::ALL`].
    fn index(self) -> usize;

    /// As the exposition writes it.
    fn value(self) -> &'static str;
}

macro_rules! label {
    ($(#[$meta:meta])* $name:ident = $label:literal { $($(#[$variant_meta:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, reason = "the variants are the label values")]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn value(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                }
            }
        }
    };
}

label! {
    /// Which of the two WebSocket endpoints.
    Endpoint = "endpoint" {
        /// `/v1/server`
        server,
        /// `/v1/client`
        client,
    }
}

label! {
    /// Which kind of peer a connection belongs to.
    Leg = "leg" {
        /// A user's daemon.
        binary,
        /// An app.
        phone,
    }
}

label! {
    /// The terminal decision on one upgrade attempt.
    Outcome = "outcome" {
        /// Registered.
        accept,
        /// A required header is missing (HTTP 400).
        reject_headers,
        /// The server-id is held by a living binary (close 4409).
        reject_409,
        /// No binary holds the server-id (close 4404).
        reject_404,
        /// The server-id has all its phones (close 4429).
        reject_429,
        /// Too many attempts from this address (HTTP 429).
        reject_rate_limit,
    }
}

label! {
    /// The reference's second name for some outcomes.
    Failure = "kind" {
        /// As `reject_404`.
        no_server,
        /// As `reject_409`.
        server_in_use,
        /// As `reject_429`.
        phones_at_cap,
        /// As `reject_rate_limit`.
        ratelimit,
    }
}

impl Outcome {
    /// The failure that this outcome is.
    pub(super) fn failure(self) -> Option<Failure> {
        match self {
            Self::accept | Self::reject_headers => None,
            Self::reject_409 => Some(Failure::server_in_use),
            Self::reject_404 => Some(Failure::no_server),
            Self::reject_429 => Some(Failure::phones_at_cap),
            Self::reject_rate_limit => Some(Failure::ratelimit),
        }
    }
}

label! {
    /// Which way a frame went.
    Direction = "direction" {
        /// From a phone to its binary.
        phone_to_binary,
        /// From a binary to one of its phones.
        binary_to_phone,
    }
}

impl Direction {
    /// The way of frames that end on this leg.
    pub(crate) fn to(leg: Leg) -> Self {
        match leg {
            Leg::binary => Self::phone_to_binary,
            Leg::phone => Self::binary_to_phone,
        }
    }
}

label! {
    /// Why a connection was dropped before it was answered.
    Dropped = "reason" {
        /// Its address opens connections too fast.
        address_rate,
        /// Its address has too many unanswered ones.
        address_full,
        /// There were too many unanswered ones, and its address had most of them.
        all_full,
        /// A PROXY header is due, and its address is not that of a proxy which may send one.
        untrusted_proxy,
    }
}

label! {
    /// Why a request was refused before its upgrade.
    Refusal = "reason" {
        /// Too many attempts from this address (429).
        rate,
        /// The address has all its connections (429).
        ip_full,
        /// Tenures of this server-id keep ending at once (429).
        redial,
        /// The relay has all its connections (503).
        full,
        /// The relay shuts down (503).
        draining,
        /// It is for another host (421), or for none or two (400).
        host,
        /// A required header is missing, or a server-id is not UTF-8 (400).
        headers,
        /// No valid WebSocket handshake (400, 403, 405, 426).
        handshake,
        /// Nobody serves this path (404).
        not_found,
    }
}

label! {
    /// Where a connection ended that never made a request.
    Stage = "stage" {
        /// In the PROXY protocol header.
        proxy,
        /// In the TLS handshake.
        tls,
        /// In the head of its request.
        http,
    }
}

label! {
    /// How much of a TLS handshake was needed.
    Handshake = "kind" {
        /// All of it.
        full,
        /// The peer resumed an earlier session.
        resumed,
    }
}

label! {
    /// How the wait of a parked phone ended.
    Unparked = "outcome" {
        /// Its binary came, and got what it had sent.
        delivered,
        /// No binary came in time.
        expired,
        /// A binary came as another process, or the relay had no other choice.
        evicted,
        /// The phone gave up.
        left,
    }
}

label! {
    /// What became of a request to wake a phone.
    WakeOutcome = "outcome" {
        /// The push service took it.
        sent,
        /// The push service doesn't know the phone.
        unregistered,
        /// The push service refused it or could not be reached.
        send_failed,
        /// There was no access token for the push service.
        token_fetch_failed,
        /// Not tried: too many.
        dropped,
    }
}
