//! The page: one document that needs nothing else, and a policy that lets it load nothing else.

use super::reply::{Reply, typed};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};

const HTML: &str = include_str!("page/page.html");
const CSS: &str = include_str!("page/page.css");

/// In the order in which the document names them.
const SCRIPTS: [(&str, &str); 2] = [
    ("charts.js", include_str!("page/charts.js")),
    ("page.js", include_str!("page/page.js")),
];

/// The document with its style and scripts inside.
pub(super) struct Page {
    html: Bytes,
    policy: HeaderValue,
}

impl Page {
    pub(super) fn new() -> Self {
        let link = "<link rel=\"stylesheet\" href=\"page.css\">";
        let mut html = HTML.replacen(link, &format!("<style>{CSS}</style>"), 1);
        let mut scripts = String::new();
        for (name, script) in SCRIPTS {
            let reference = format!("<script src=\"{name}\"></script>");
            html = html.replacen(&reference, &format!("<script>{script}</script>"), 1);
            scripts += &format!(" {}", source(script));
        }
        let policy = format!(
            "default-src 'none'; script-src{scripts}; style-src {}; connect-src 'self'; img-src data:; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            source(CSS)
        );
        Self {
            html: html.into(),
            // Hashes in base64 between fixed words are fit for a header.
            policy: HeaderValue::from_str(&policy)
                .unwrap_or(HeaderValue::from_static("default-src 'none'")),
        }
    }

    pub(super) fn reply(&self) -> Reply {
        let mut reply = typed(
            StatusCode::OK,
            "text/html; charset=utf-8",
            self.html.clone(),
        );
        let headers = reply.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        reply
    }
}

/// What a policy calls an inline script or style.
fn source(text: &str) -> String {
    let hash = STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!("'sha256-{hash}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_needs_nothing_else() {
        let page = Page::new();
        let html = std::str::from_utf8(&page.html).unwrap();
        assert!(html.contains("<style>") && html.contains("<script>"));
        for outside in [
            "<link rel=\"stylesheet\"",
            "<script src",
            "http://",
            "https://",
        ] {
            let found = html
                .find(outside)
                .map(|at| &html[at..(at + 80).min(html.len())]);
            // Names of XML namespaces are addresses, and nothing is loaded from them.
            let allowed = found.is_none_or(|text| text.starts_with("http://www.w3.org/"));
            assert!(allowed, "{found:?}");
        }
        for end in ["</style", "</script"] {
            assert!(!CSS.contains(end) && SCRIPTS.iter().all(|(_, s)| !s.contains(end)));
        }
    }

    #[test]
    fn the_policy_allows_exactly_what_is_inside() {
        let page = Page::new();
        let html = std::str::from_utf8(&page.html).unwrap();
        let policy = page.policy.to_str().unwrap();
        let inside = html.split("<script>").skip(1);
        let scripts: Vec<_> = inside
            .map(|rest| rest.split("</script>").next().unwrap())
            .collect();
        assert_eq!(scripts.len(), SCRIPTS.len());
        for script in scripts {
            assert!(policy.contains(&source(script)), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
