use std::path::Path;
use std::sync::Arc;
pub(crate) struct Loaded {
    pub(crate) key: Arc<()>,
}
pub(crate) fn load(_c: &Path, _k: &Path) -> Result<Loaded, String> {
    todo!()
}
pub(crate) async fn watch(
    _p: crate::config::CertificateFiles,
    _c: Arc<super::Certificates>,
    _n: Arc<tokio::sync::Notify>,
    _l: crate::observe::log::Log,
) {
}
