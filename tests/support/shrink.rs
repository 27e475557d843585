//! Making a failing script short.

/// `script` with as many steps taken out as can be while it still fails: halves first, then ever
/// smaller parts.
pub(crate) fn shrink<T: Clone>(mut script: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut part = script.len() / 2;
    while part > 0 {
        let mut start = 0;
        while start < script.len() {
            let end = (start + part).min(script.len());
            let shorter = [&script[..start], &script[end..]].concat();
            if fails(&shorter) {
                script = shorter;
            } else {
                start = end;
            }
        }
        part /= 2;
    }
    script
}
