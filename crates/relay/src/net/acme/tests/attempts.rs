//! What one attempt leaves for the next one.

use super::slow_ca::{Manner, SlowCa};
use super::*;
use order::Progress;
use relay_core::Counted;
use tokio::time::{Instant, advance};

/// Orders at a CA, of which it may take several attempts to get one done.
struct Orders {
    ca: SlowCa,
    account: Account,
    stage: Stage,
    progress: Progress,
}

impl Orders {
    async fn at(manner: Manner) -> Self {
        let ca = SlowCa::new(manner);
        let key = EcKey::generate().unwrap();
        let signing = instant_acme::Key::from_pkcs8_der(key.pkcs8()).unwrap();
        let builder = Account::builder_with_http(Box::new(ca.clone()));
        let directory = "https://ca.test/directory".to_owned();
        let account = builder.create_from_key((signing, key.pkcs8().into()), directory);
        Self {
            account: account.await.unwrap().0,
            ca,
            stage: Stage {
                domain: DOMAIN.into(),
                certificates: Arc::new(Certificates::new(Some(DOMAIN))),
                http01: Arc::new(Http01::new(DOMAIN)),
            },
            progress: Progress::new(),
        }
    }

    /// What comes of an attempt at a CA that does this from now on, and what it counts for.
    async fn attempt(&mut self, manner: Manner) -> (Result<Issued, Failure>, Counted) {
        self.ca.behave(manner);
        self.progress.counted = Counted::Nothing;
        let (account, progress) = (&self.account, &mut self.progress);
        let issued = self.stage.order(account, Method::Http01, progress).await;
        (issued, self.progress.counted)
    }
}

const AT_ONCE: Manner = Manner::After(Duration::ZERO);

#[tokio::test(start_paused = true)]
async fn a_ca_that_takes_its_time_is_asked_until_it_has_issued() {
    for seconds in [0, 30, 88] {
        let time = Duration::from_secs(seconds);
        let mut orders = Orders::at(AT_ONCE).await;
        let start = Instant::now();
        let (issued, counted) = orders.attempt(Manner::After(time)).await;
        assert!(issued.is_ok(), "{seconds} s: {:?}", issued.err());
        assert_eq!(counted, Counted::Order);
        // One second for the validation, one at the most after the issuance.
        let late = start.elapsed() - time;
        assert!(late <= Duration::from_secs(3), "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_not_done_or_whose_answers_are_lost_is_gone_on_with() {
    for manner in [Manner::Later, Manner::Mute, Manner::Deaf] {
        let mut orders = Orders::at(manner).await;
        let (issued, counted) = orders.attempt(manner).await;
        let failure = issued.err().unwrap();
        assert!(matches!(failure, Failure::Unsettled(_)), "{failure}");
        assert_eq!(counted, Counted::Order);
        let (issued, counted) = orders.attempt(AT_ONCE).await;
        assert!(issued.is_ok(), "{manner:?}: {:?}", issued.err());
        assert_eq!(counted, Counted::Nothing, "{manner:?}");
        assert_eq!(orders.ca.counts(), (1, 1), "{manner:?}");
        // What is done is done: the next certificate is another order's.
        let (issued, counted) = orders.attempt(AT_ONCE).await;
        assert!(issued.is_ok() && counted == Counted::Order);
        assert_eq!(orders.ca.counts(), (2, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_survives_an_attempt_that_is_cut_off() {
    let slow = Manner::After(Duration::from_secs(60));
    let mut orders = Orders::at(slow).await;
    let cut = tokio::time::timeout(Duration::from_secs(10), orders.attempt(slow));
    assert!(cut.await.is_err());
    assert_eq!(orders.progress.counted, Counted::Order);
    assert!(orders.attempt(AT_ONCE).await.0.is_ok());
    assert_eq!(orders.ca.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_failed_or_takes_hours_makes_room_for_another() {
    let mut orders = Orders::at(AT_ONCE).await;
    assert!(orders.attempt(Manner::Later).await.0.is_err());
    assert!(orders.attempt(Manner::Failing).await.0.is_err());
    assert!(orders.attempt(Manner::Later).await.0.is_err());
    assert_eq!(orders.ca.counts(), (2, 2), "the first one failed");
    advance(Duration::from_secs(3_500)).await;
    assert!(orders.attempt(Manner::Later).await.0.is_err());
    assert_eq!(orders.ca.counts(), (2, 2));
    advance(Duration::from_secs(100)).await;
    assert!(orders.attempt(Manner::Later).await.0.is_err());
    assert_eq!(orders.ca.counts(), (2, 2), "a last look");
    assert!(orders.attempt(AT_ONCE).await.0.is_ok());
    assert_eq!(orders.ca.counts(), (3, 3), "the second one was lost");
}

#[tokio::test(start_paused = true)]
async fn an_order_that_was_issued_between_two_late_attempts_is_fetched() {
    let mut orders = Orders::at(AT_ONCE).await;
    assert!(orders.attempt(Manner::Later).await.0.is_err());
    advance(Duration::from_secs(7_200)).await;
    assert!(orders.attempt(AT_ONCE).await.0.is_ok());
    assert_eq!(orders.ca.counts(), (1, 1));
}

/// The ACME client of a relay that keeps its certificates here, and never asks a CA.
fn opened(cache: &Path, directory: &str) -> Acme {
    let settings = Settings {
        domain: DOMAIN.into(),
        directory: directory.into(),
        ca_file: None,
        cache: cache.into(),
    };
    let certificates = Arc::new(Certificates::new(Some(DOMAIN)));
    Acme::open(settings, certificates, Log::start(LogSettings::silent())).unwrap()
}

#[tokio::test]
async fn while_no_ca_can_be_reached_it_is_asked_every_five_minutes() {
    let home = TempDir::new().unwrap();
    // Nobody listens there.
    let mut acme = opened(home.path(), "https://127.0.0.1:1/directory");
    for _ in 0..8 {
        acme.attempt().await;
    }
    assert_eq!(acme.renewal.failures(), 8);
    assert!((1..=300).contains(&acme.renewal.wait_s(now())));
}

/// A certificate, as a CA issues it.
fn issued() -> Issued {
    let key = EcKey::generate().unwrap();
    let chain = vec![certificate(DOMAIN, &key)];
    Issued {
        certificate: Certificate::new(chain, &key.sec1()).unwrap(),
        key: Arc::new(key),
    }
}

#[tokio::test]
async fn a_certificate_that_another_directory_issued_serves_but_is_due() {
    let (staging, production) = ("https://staging.test/dir", "https://ca.test/dir");
    let home = TempDir::new().unwrap();
    let due = |directory| opened(home.path(), directory).renewal.wait_s(now()) == 0;
    let mut acme = opened(home.path(), staging);
    acme.succeeded(Method::Http01, issued()).await;
    assert!(!due(staging));

    let mut acme = opened(home.path(), production);
    assert_eq!(acme.renewal.wait_s(now()), 0);
    assert!(acme.stage.certificates.current().is_some(), "it serves");
    let (told, _) = acme.log.recent().take();
    let unfit = told.iter().find(|h| h.event == Event::CertificateUnfit);
    assert!(unfit.is_some_and(|h| h.detail.contains(staging)));
    acme.succeeded(Method::Http01, issued()).await;
    assert!(acme.renewal.wait_s(now()) > 0);
    assert!(!due(production) && due(staging));
}

#[tokio::test]
async fn of_a_certificate_whose_origin_nobody_noted_nothing_is_assumed() {
    let (one, another) = ("https://one.test/dir", "https://another.test/dir");
    let home = TempDir::new().unwrap();
    let mut acme = opened(home.path(), one);
    acme.succeeded(Method::Http01, issued()).await;
    let due = |directory| opened(home.path(), directory).renewal.wait_s(now()) == 0;
    assert!(due(another));
    // The reference replaced it, and knows nothing of our note.
    let theirs = issued();
    let chain = &theirs.certificate.certified().cert;
    let text = entry(&theirs.key, chain);
    acme.cache.write(DOMAIN, &text).unwrap();
    assert!(!due(another));
    // Neither a note that is damaged, nor none, says anything.
    let note = origin_of(DOMAIN);
    acme.cache.write(&note, "https://one.test/dir").unwrap();
    assert!(!due(another));
    std::fs::remove_file(acme.cache.path(&note)).unwrap();
    assert!(!due(another));
    // Nor one that cannot be read; but that is told.
    let note = acme.cache.path(&note);
    std::fs::create_dir(&note).unwrap();
    let mut acme = opened(home.path(), another);
    assert!(acme.renewal.wait_s(now()) > 0);
    let (told, _) = acme.log.recent().take();
    let unusable = told
        .iter()
        .find(|h| h.event == Event::CertificateCacheUnusable);
    assert!(unusable.is_some_and(|h| h.detail.contains("+directory")));
}
