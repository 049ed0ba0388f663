pub(crate) struct Tightened {
    pub(crate) from: String,
    pub(crate) to: String,
}
pub(crate) fn prepare(_p: &std::path::Path) -> Result<Option<Tightened>, String> {
    todo!()
}
