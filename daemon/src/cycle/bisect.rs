use futures_util::future::BoxFuture;

/// Which scopes could be worked on, and which are at fault.
#[derive(Debug)]
pub(super) struct Bisected<T, E> {
    pub(super) done: Vec<(Vec<u32>, T)>,
    /// Sets of one scope each, unless halving would not help or the calls ran out.
    pub(super) failed: Vec<(Vec<u32>, E)>,
}

/// Halves the scopes of failed attempts until those at fault stand alone; what is not at fault gets
/// through.
///
/// Makes at most `calls_max` attempts beside the `first`. Errors for which `isolates` says no are
/// final.
pub(super) async fn bisect<'a, T, E>(
    scopes: Vec<u32>,
    first: Result<T, E>,
    calls_max: usize,
    isolates: impl Fn(&E) -> bool,
    attempt: impl Fn(Vec<u32>) -> BoxFuture<'a, Result<T, E>>,
) -> Bisected<T, E> {
    let mut result = Bisected { done: Vec::new(), failed: Vec::new() };
    let mut left = vec![(scopes, first)];
    let mut calls = 0;
    while let Some((scopes, outcome)) = left.pop() {
        match outcome {
            Ok(value) => result.done.push((scopes, value)),
            Err(error) if scopes.len() > 1 && calls + 2 <= calls_max && isolates(&error) => {
                let (low, high) = scopes.split_at(scopes.len() / 2);
                for half in [high, low] {
                    left.push((half.to_vec(), attempt(half.to_vec()).await));
                    calls += 1;
                }
            }
            Err(error) => result.failed.push((scopes, error)),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// What came through, what is at fault, and how many calls it took.
    fn run(count: u32, bad: &[u32], calls_max: usize) -> (Vec<u32>, Vec<Vec<u32>>, usize) {
        let calls = Cell::new(0);
        let attempt = |scopes: &[u32]| {
            let at_fault = scopes.iter().copied().find(|scope| bad.contains(scope));
            at_fault.map_or(Ok(()), Err)
        };
        let scopes: Vec<u32> = (0..count).collect();
        let first = attempt(&scopes);
        let halves = |scopes: Vec<u32>| {
            calls.set(calls.get() + 1);
            // Not sent anywhere, so the result is made here and now.
            let outcome = attempt(&scopes);
            std::future::ready(outcome).boxed()
        };
        let bisected = bisect(scopes, first, calls_max, |_| true, halves).now_or_never().unwrap();
        let mut done: Vec<u32> =
            bisected.done.into_iter().flat_map(|(scopes, ())| scopes).collect();
        done.sort_unstable();
        let mut failed: Vec<_> = bisected.failed.into_iter().map(|(scopes, _)| scopes).collect();
        failed.sort();
        (done, failed, calls.get())
    }

    #[test]
    fn one_bad_scope_of_a_thousand_costs_twenty_calls() {
        let (done, failed, calls) = run(1000, &[777], 100);

        assert_eq!((done.len(), failed, calls), (999, vec![vec![777]], 20));
    }

    #[test]
    fn calls_are_limited_and_what_is_left_fails_together() {
        let all: Vec<u32> = (0..1000).collect();

        let (done, failed, calls) = run(1000, &all, 30);

        assert_eq!((done.len(), calls), (0, 30));
        assert_eq!(failed.iter().map(Vec::len).sum::<usize>(), 1000);
    }

    proptest! {
        #[test]
        fn exactly_the_bad_ones_are_found(
            count in 1_u32..200, bad in prop::collection::btree_set(0_u32..200, 0..6),
        ) {
            let bad: Vec<u32> = bad.into_iter().filter(|scope| *scope < count).collect();

            let (done, failed, _) = run(count, &bad, 1000);

            prop_assert_eq!(failed, bad.iter().map(|scope| vec![*scope]).collect::<Vec<_>>());
            prop_assert_eq!(done.len(), count as usize - bad.len());
        }
    }
}
