//! Everything the log can say: each event with its level, whether the admin page shows it, the keys its records may
//! carry, and what it means. One table for the code, for docs/log.md, and for the tests.

/// How much a record matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Level {
    /// Something normal happened.
    #[default]
    Info,
    /// A peer or the machine misbehaves.
    Warn,
    /// The relay cannot do its work.
    Error,
}

impl Level {
    /// As records spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

macro_rules! events {
    (@is shown) => { true };
    (@is hidden) => { false };
    ($($variant:ident $level:ident $shown:ident $name:literal [$($key:ident),*] $meaning:literal),* $(,)?) => {
        /// Every event the relay logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event { $(#[doc = $meaning] $variant),* }

        impl Event {
            /// Every event.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The `msg` of its line.
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }

            /// The level of its line.
            pub fn level(self) -> Level { match self { $(Self::$variant => Level::$level),* } }

            /// Whether the admin page shows it: what is about peers, certificates and push, and whatever is no
            /// [`Level::Info`].
            pub(crate) fn is_shown(self) -> bool { match self { $(Self::$variant => events!(@is $shown)),* } }

            /// What its records may carry beside `time`, `level` and `msg`.
            pub fn keys(self) -> &'static [Key] { match self { $(Self::$variant => &[$(Key::$key),*]),* } }

            /// In words, for the manual.
            pub fn meaning(self) -> &'static str { match self { $(Self::$variant => $meaning),* } }
        }
    };
}

events! {
    ServerClaimed Info shown "server_claimed" [ServerId, BinaryVersion, Remote]
        "A binary holds the server-id from now on.",
    ServerIdTakeover Info shown "server_id_takeover" [ServerId, Remote]
        "It took the server-id from a holder that failed its probe; `server_claimed` follows.",
    ServerIdConflict Info shown "server_id_conflict" [ServerId, Remote]
        "A binary was turned away with 4409: the holder has just proved to be alive.",
    ServerReleased Info shown "server_released" [ServerId]
        "The holder is gone; its grace window begins.",
    ServerResumed Info shown "server_resumed" [ServerId, Remote]
        "The process that had left is back, and its tenure goes on; `server_claimed` follows.",
    PhoneRegistered Info shown "phone_registered" [ServerId, ConnId, DeviceName, Remote]
        "A phone is in.",
    PhoneRegisterNoServer Info shown "phone_register_no_server" [ServerId, Remote]
        "A phone was turned away with 4404: nobody holds the server-id.",
    PhoneRegisterAtCap Info shown "phone_register_at_cap" [ServerId, Remote]
        "A phone was turned away with 4429: the server-id has all its phones.",
    PhoneParked Info shown "phone_parked" [ServerId, ConnId]
        "A phone waits for its binary to return.",
    PhoneUnregistered Info hidden "phone_unregistered" [ServerId, ConnId]
        "The last line about a phone, unless its binary had asked for its close before it did something wrong.",
    PhoneCloseNoticeSendFailed Info hidden "phone_close_notice_send_failed" [ServerId, ConnId, CloseCode, Err]
        "The binary could not be told that a phone is gone: it is away, or its queue is full.",
    PhoneForwarderReadEnd Info shown "phone_forwarder_read_end" [ServerId, ConnId, Err]
        "Nothing more is read from a phone; `err` says why.",
    PhoneForwarderMarshalErr Warn shown "phone_forwarder_marshal_err" [ServerId, ConnId, Err]
        "A phone sent something that is not JSON, and is closed with 1007.",
    PhoneForwarderNoBinary Info shown "phone_forwarder_no_binary" [ServerId, ConnId]
        "A frame had no binary to go to.",
    PhoneForwarderSendFailed Info shown "phone_forwarder_send_failed" [ServerId, ConnId, Err]
        "A frame found no room in the queue of its binary.",
    BinaryForwarderReadEnd Info shown "binary_forwarder_read_end" [ServerId, BinaryConnId, Err]
        "Nothing more is read from a binary; `err` says why.",
    BinaryForwarderUnmarshalErr Warn shown "binary_forwarder_unmarshal_err" [ServerId, BinaryConnId, Err]
        "A binary sent something that is no envelope. It was dropped; the connection stays.",
    BinaryForwarderPushWakeDropped Warn shown "binary_forwarder_push_wake_dropped" [ServerId, BinaryConnId, Err]
        "A push wake was refused; `err` says why.",
    BinaryForwarderUnknownConnId Warn shown "binary_forwarder_unknown_conn_id" [ServerId, ConnId]
        "A binary sent something to a phone that is not there, as happens when a phone has just left.",
    BinaryForwarderPhoneEnqueueFailed Info hidden "binary_forwarder_phone_enqueue_failed" [ServerId, ConnId, Err]
        "A frame found no room in the queue of its phone.",
    BinaryForwarderLinesLeftOut Warn shown "binary_forwarder_lines_left_out" [ServerId, BinaryConnId, Count]
        "A binary went on sending what goes nowhere: it has 20 lines, and then one a second, and these are missing.",
    BinaryForwarderPhoneSendFailed Info hidden "binary_forwarder_phone_send_failed" [ServerId, ConnId, Err]
        "A frame could not be written to its phone.",
    BinaryForwarderCloseFrameSendFailed Info hidden "binary_forwarder_close_frame_send_failed" [ServerId, ConnId, CloseCode, Err]
        "A phone could not be closed as its binary asked.",
    BinaryForwarderPhoneClosed Info shown "binary_forwarder_phone_closed" [ServerId, ConnId, CloseCode]
        "A phone was closed as its binary asked.",
    PushWakeSent Info shown "push_wake_sent" [ServerId, TokenFp, Duration, FcmMessageId]
        "The push service took a wake.",
    PushWakeSendFailed Warn shown "push_wake_send_failed" [ServerId, TokenFp, Duration, Err]
        "A wake did not get through; `err` has the kind of failure, and the push service's status and codes.",
    RateLimited Warn shown "rate_limited" [Remote]
        "An address tries to connect too often (429).",
    RedialLimited Warn shown "redial_limited" [ServerId, Remote]
        "A binary was refused for a while (429): its connections keep ending at once, or 16 claimants of its server-id wait already.",
    ConnCapReached Warn shown "conn_cap_reached" [Path, Remote]
        "`--max-connections` is reached (503).",
    IpConnCapReached Warn shown "ip_conn_cap_reached" [Path, Remote]
        "An address has `--max-connections-per-ip` (429).",
    AcceptFailed Warn shown "accept_failed" [Err]
        "The system gives out no connection: usually there are no descriptors left.",
    LogLinesDropped Warn shown "log_lines_dropped" [Count]
        "Standard error was read too slowly; so many lines are missing.",
    ConnectionsDropped Warn shown "connections_dropped" [Reason, Count, Remote]
        "Connections were dropped before they were answered; `remote` is the last of them, where one address is to blame: it has too many, or only `--trust-proxy` may connect.",
    Starting Info hidden "starting" [Version, Mode, Listen, MaxConnections, Domain, CertCache, HttpsProxyProtocol]
        "The relay starts.",
    StartingMetricsListener Info hidden "starting metrics listener" [Listen]
        "Where `/metrics` is.",
    StartingHealthListener Info hidden "starting health listener" [Listen]
        "Where health is served.",
    StartingHttpListener Info hidden "starting http listener" [Listen]
        "Where ACME challenges are answered.",
    UnusedSocket Warn shown "inherited socket is not used" [Addr]
        "The service manager handed over a socket whose port no listener has.",
    Privileged Warn shown "running with more privileges than needed" [Err, Fix]
        "It runs as root, or with capabilities it does not need.",
    LimitsBeyondMachine Warn shown "limits are beyond what this machine can hold" [Err, Fix]
        "Limits are larger together than what descriptors or memory allow.",
    UnknownVariable Warn shown "environment variable names no setting" [EnvVar]
        "A variable starts with `PYRYCODE_RELAY_` and is no setting: a typing error?",
    PushOn Info shown "push on" [Project]
        "Push wakes are sent, for this project.",
    PushOff Info shown "push off: PYRYCODE_RELAY_FCM_CREDENTIALS unset" []
        "No credentials: push wakes are dropped.",
    ShutdownSignal Info shown "shutdown signal received; draining" []
        "The relay was told to stop.",
    ShutdownComplete Info hidden "shutdown complete" []
        "Every connection is closed.",
    ShutdownDeadlineExceeded Warn shown "shutdown deadline exceeded; force-closed listeners" []
        "Some peers did not finish their closing handshake in time.",
    DrainIncomplete Warn shown "drain incomplete" []
        "Follows it.",
    ListenerFailed Error shown "listener failed" [Addr, Err]
        "An address cannot be listened on.",
    ListenerErrorDraining Error shown "listener error; draining" []
        "Follows it; the relay ends.",
    ReloadRequested Info shown "reload requested" []
        "SIGHUP came.",
    RefusedNoMode Error shown "refusing to start: neither --domain nor --insecure-listen given" [Err, Fix]
        "Neither TLS nor plain HTTP was chosen.",
    RefusedInsecure Error shown "refusing to start: --insecure-listen is mutually exclusive with the TLS settings" [Err, Fix]
        "Both were.",
    RefusedMaxConnections Error shown "refusing to start: invalid --max-connections" [Err, Value, Fix]
        "`--max-connections` is below 1.",
    RefusedEnvironment Error shown "refusing to start: invalid env-var config" [Err, EnvVar, Reason, Fix]
        "A variable that asserts something has another value than those it may have.",
    RefusedMultiInstance Error shown "refusing to start: multi-instance deploy detected" [Err, BypassEnvVar, Fix]
        "The platform may start several instances.",
    RefusedProduction Error shown "refusing to start: production-mode misconfiguration" [Err, EnvVar, EffectiveUid, Fix]
        "Something is not fit for production.",
    RefusedCapabilities Error shown "refusing to start: unexpected Linux capabilities" [Err, EnvVar, Fix]
        "It has capabilities that it does not need.",
    RefusedSettings Error shown "refusing to start: unusable settings" [Err, Value, Fix]
        "A setting cannot be used.",
    RefusedFile Error shown "refusing to start: invalid configuration file" [Err, Path, Fix]
        "The configuration file cannot be used.",
    RefusedMetricsListen Error shown "refusing to start: invalid --metrics-listen address" [Err, Value, Fix]
        "`--metrics-listen` is not on loopback.",
    RefusedCertificate Error shown "refusing to start: unusable certificate files" [Err, Fix]
        "`--tls-cert` and `--tls-key` cannot be used.",
    RefusedListenAddress Error shown "refusing to start: invalid listener address" [Err, Addr, Fix]
        "An address of a listener is none.",
    AutocertSetupFailed Error shown "autocert setup failed" [Err, Path, Fix]
        "The certificate cache cannot be used.",
    CertCacheTightened Info hidden "tightened cert cache dir perms" [Path, From, To]
        "The certificate cache was open to others, and is not any more.",
    CertificateSelfSigned Info shown "certificate_self_signed" [Fingerprint, NotAfter]
        "A certificate was made for `--self-signed`.",
    CertificateLoaded Info shown "certificate_loaded" [Domain, NotAfter]
        "A certificate serves, from files or from the cache.",
    CertificateUnfit Warn shown "certificate_unfit" [Err]
        "It is served all the same, but clients may refuse it.",
    CertificateReloadFailed Warn shown "certificate_reload_failed" [Err]
        "The changed files cannot be used; the old certificate serves on.",
    CertificateIssued Info shown "certificate_issued" [Domain, NotAfter, Challenge]
        "The CA issued a certificate.",
    CertificateChallengeFailed Warn shown "certificate_challenge_failed" [Domain, Challenge, Err]
        "The CA could not validate the domain in this way; the other way is tried.",
    CertificateRenewalFailed Warn shown "certificate_renewal_failed" [Domain, RetryIn, Err]
        "No new certificate; the one in force serves on.",
    CertificateCacheUnusable Warn shown "certificate_cache_unusable" [Path, Err]
        "An entry of the cache cannot be used.",
    CertificateCacheWriteFailed Warn shown "certificate_cache_write_failed" [Path, RetryIn, Err]
        "A new certificate is in memory only.",
    CertificateCacheWritten Info shown "certificate_cache_written" [Path]
        "Now it is on disk.",
}

macro_rules! keys {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// Every key a record may carry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Key { $(#[doc = $name] $variant),* }

        impl Key {
            /// Every key.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its spelling.
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }
        }
    };
}

keys! {
    ServerId "server_id",
    ConnId "conn_id",
    BinaryConnId "binary_conn_id",
    DeviceName "device_name",
    Remote "remote",
    BinaryVersion "binary_version",
    Err "err",
    Path "path",
    CloseCode "close_code",
    Version "version",
    Mode "mode",
    Listen "listen",
    MaxConnections "max_connections",
    Addr "addr",
    Count "count",
    Value "value",
    Fix "fix",
    EnvVar "env_var",
    Reason "reason",
    BypassEnvVar "bypass_env_var",
    EffectiveUid "effective_uid",
    Domain "domain",
    CertCache "cert_cache",
    HttpsProxyProtocol "https_proxy_protocol",
    Fingerprint "fingerprint",
    From "from",
    To "to",
    NotAfter "not_after",
    RetryIn "retry_in",
    Challenge "challenge",
    Project "project",
    TokenFp "token_fp",
    FcmMessageId "fcm_message_id",
    Duration "duration",
}

impl Key {
    /// Whether its values are numbers, which JSON writes without quotes.
    pub(super) fn is_number(self) -> bool {
        matches!(
            self,
            Self::CloseCode | Self::Count | Self::MaxConnections | Self::EffectiveUid
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Event::ALL.iter().map(|e| e.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Event::ALL.len());
    }

    #[test]
    fn whatever_is_wrong_is_shown() {
        let hidden = |event: &&Event| event.level() > Level::Info && !event.is_shown();
        assert_eq!(Event::ALL.iter().find(hidden), None);
    }

    #[test]
    fn every_key_is_used() {
        let unused = |key: &&Key| !Event::ALL.iter().any(|event| event.keys().contains(key));
        assert_eq!(Key::ALL.iter().find(unused), None);
    }
}
