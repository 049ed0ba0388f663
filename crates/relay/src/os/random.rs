//! Secrets: bytes that nobody can guess.

/// Bytes from the system's generator.
///
/// # Panics
/// When that fails, which it does not once the system is up. To go on with something that can be guessed would be worse.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        // Nobody who asks for a secret has anything better to do.
        panic!("the system's random generator fails: {error}");
    }
    bytes
}
