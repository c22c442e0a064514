use super::*;
use crate::{Dataset, transform};
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

/// `count` pictures of 3 × 6 × 5 pixels.
fn pictures(count: usize) -> Dataset {
    let pixels = (0..count * 90).map(|at| (at * 31 % 251) as u8).collect();
    let labels = (0..count).map(|index| (index % 3) as i64).collect();
    let inputs = Array::new([count, 3, 6, 5], Values::U8(pixels)).unwrap();
    Dataset::new("pictures", inputs, labels, vec!["a".into(), "b".into(), "c".into()]).unwrap()
}

fn augmented(workers: usize, prefetch: usize) -> Loader {
    Loader::new(pictures(53), 8)
        .seed(7)
        .workers(workers)
        .prefetch(prefetch)
        .transform(transform::horizontal_flip(0.5))
        .transform(transform::random_crop(6, 5, 2))
        .transform(transform::rotation(20.0))
        .transform(transform::shear(10.0))
        .transform(transform::colour_shift(0.1))
}

fn epoch(loader: &mut Loader) -> Vec<Batch> {
    loader.epoch().map(|batch| batch.unwrap()).collect()
}

fn indices(batches: &[Batch]) -> Vec<usize> {
    batches.iter().flat_map(|batch| batch.indices.clone()).collect()
}

#[test]
fn an_epoch_holds_everything_once() {
    let mut loader = Loader::new(pictures(53), 8);
    assert_eq!(loader.batches(), 7);
    let (first, second) = (epoch(&mut loader), epoch(&mut loader));
    assert_eq!(first.iter().map(|batch| batch.inputs.rows()).collect::<Vec<_>>(), [8, 8, 8, 8, 8, 8, 5]);
    assert_eq!(first[0].inputs.shape, [8, 3, 6, 5]);
    for batches in [&first, &second] {
        let mut seen = indices(batches);
        assert_ne!(seen, (0..53).collect::<Vec<_>>());
        seen.sort_unstable();
        assert_eq!(seen, (0..53).collect::<Vec<_>>());
    }
    assert_ne!(indices(&first), indices(&second));
    // The contents belong to their numbers.
    let set = pictures(53);
    for batch in &first {
        for (row, &index) in batch.indices.iter().enumerate() {
            let (mut got, mut expected) = (Vec::new(), Vec::new());
            batch.inputs.push_row(row, &mut got);
            set.inputs.push_row(index, &mut expected);
            assert_eq!((got, batch.labels[row]), (expected, (index % 3) as i64));
        }
    }
    let mut plain = Loader::new(pictures(53), 8).shuffle(false).drop_last(true);
    assert_eq!(indices(&epoch(&mut plain)), (0..48).collect::<Vec<_>>());
    assert_eq!(plain.batches(), 6);
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let reference: Vec<_> = {
        let mut loader = augmented(0, 1);
        (0..3).map(|_| epoch(&mut loader)).collect()
    };
    assert_ne!(reference[0], reference[1]);
    for (workers, prefetch) in [(1, 1), (1, 2), (2, 3), (5, 2), (5, 9), (16, 100)] {
        let mut loader = augmented(workers, prefetch);
        for expected in &reference {
            assert!(epoch(&mut loader) == *expected, "{workers} workers, prefetch {prefetch}");
        }
    }
    let mut other = augmented(2, 2).seed(8);
    assert_ne!(epoch(&mut other), reference[0]);
}

#[test]
fn an_example_is_changed_alike_wherever_it_stands() {
    // The same epoch in another order and in other batches: the transforms follow the example's number.
    let rows = |mut loader: Loader| {
        let mut rows = BTreeMap::new();
        for batch in epoch(&mut loader) {
            for (row, &index) in batch.indices.iter().enumerate() {
                let mut values = Vec::new();
                batch.inputs.push_row(row, &mut values);
                rows.insert(index, values);
            }
        }
        rows
    };
    let other = Loader { job: augmented(2, 2).shuffle(false).job.clone(), ..augmented(2, 2) };
    assert_eq!(rows(augmented(2, 2)), rows(other));
}

#[test]
fn a_position_is_restored_in_mid_epoch() {
    let mut unbroken = augmented(2, 4);
    let expected: Vec<Batch> = (0..3).flat_map(|_| epoch(&mut unbroken)).collect();
    for stop in 0..expected.len() {
        let mut first = augmented(3, 3);
        let mut got: Vec<Batch> = (0..stop).map(|_| first.next_batch().unwrap()).collect();
        let text = serde_json::to_string(&first.state()).unwrap();
        drop(first);
        let state: State = serde_json::from_str(&text).unwrap();
        let mut second = augmented(1, 2);
        second.resume(&state).unwrap();
        got.extend((stop..expected.len()).map(|_| second.next_batch().unwrap()));
        assert!(got == expected, "resumed after {stop} batches");
    }
}

#[test]
fn a_dropped_iterator_only_pauses() {
    let mut loader = augmented(2, 2);
    let whole = epoch(&mut augmented(2, 2));
    let mut got: Vec<Batch> = loader.epoch().take(3).map(|batch| batch.unwrap()).collect();
    assert_eq!((loader.state().epoch, loader.state().batch), (0, 3));
    got.extend(epoch(&mut loader));
    assert_eq!(got, whole);
    assert_eq!((loader.state().epoch, loader.state().batch), (1, 0));
    // After the last batch and before the end has been said, the epoch still counts as running.
    let mut iterator = loader.epoch();
    for _ in 0..7 {
        iterator.next().unwrap().unwrap();
    }
    assert_eq!((iterator.state().epoch, iterator.state().batch), (1, 7));
    assert!(iterator.next().is_none() && iterator.next().is_none());
    assert_eq!(loader.state().epoch, 2);
}

#[test]
fn a_foreign_state_is_refused() {
    let mut loader = Loader::new(pictures(53), 8).seed(1);
    let good = loader.state();
    loader.resume(&good).unwrap();
    let wrong = [
        State { seed: 2, ..good.clone() },
        State { batch_size: 9, ..good.clone() },
        State { examples: 54, ..good.clone() },
        State { shuffle: false, ..good.clone() },
        State { batch: 8, ..good.clone() },
    ];
    for state in wrong {
        assert!(loader.resume(&state).unwrap_err().to_string().contains("saved position"));
    }
}

struct Broken;

impl Source for Broken {
    fn len(&self) -> usize {
        40
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        match index {
            17 => Err(Error::new("picture 17", "is damaged", "fetch it again")),
            33 => panic!("no picture 33"),
            _ => Ok(Sample { values: vec![index as f32], shape: vec![1], label: 0, index }),
        }
    }
}

#[test]
fn errors_and_panics_reach_the_consumer_in_their_place() {
    for workers in [0, 1, 4] {
        let mut loader = Loader::new(Broken, 8).shuffle(false).workers(workers).prefetch(3);
        let results: Vec<_> = loader.epoch().collect();
        assert_eq!(results.iter().map(|batch| batch.is_ok()).collect::<Vec<_>>(), [true, true, false, true, false]);
        assert!(results[2].as_ref().unwrap_err().to_string().contains("picture 17: is damaged"));
        let error = results[4].as_ref().unwrap_err().to_string();
        assert!(error.contains("epoch 0, batch 4: no picture 33"), "{error}");
    }
    let table = Dataset::new("table", Array::new([4, 2], Values::F32(vec![0.0; 8])).unwrap(), vec![], vec![]).unwrap();
    let error = Loader::new(table, 2).transform(transform::rotation(5.0)).next_batch().unwrap_err().to_string();
    assert!(error.contains("wants a picture"), "{error}");
}

#[test]
fn settings_that_give_no_batches_are_errors_and_end() {
    let mut none = Loader::new(pictures(5), 0);
    assert!(none.epoch().next().unwrap().unwrap_err().to_string().contains("batch size is 0"));
    assert_eq!(none.epoch().count(), 1);
    let mut small = Loader::new(pictures(5), 6).drop_last(true);
    assert!(small.next_batch().unwrap_err().to_string().contains("do not fill one batch"));
    let mut empty = Loader::new(pictures(0), 6);
    assert_eq!(empty.epoch().count(), 0);
    assert!(empty.next_batch().unwrap_err().to_string().contains("no examples"));
}

/// Counts the samples that were made, and how many holders of the source there are.
struct Counted(Arc<AtomicUsize>);

impl Source for Counted {
    fn len(&self) -> usize {
        1_000_000
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Sample { values: vec![0.0], shape: vec![1], label: 0, index })
    }
}

#[test]
fn prefetching_is_bounded_and_dropping_ends_the_threads() {
    let made = Arc::new(AtomicUsize::new(0));
    let source = Arc::new(Counted(made.clone()));
    let mut loader = Loader::new(source.clone(), 10).workers(4).prefetch(5);
    loader.next_batch().unwrap();
    // One batch is consumed and at most five are ahead: wait until they are made, then see that no more follow.
    let start = Instant::now();
    while made.load(Ordering::SeqCst) < 60 && start.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(made.load(Ordering::SeqCst), 60);
    assert!(Arc::strong_count(&source) > 1);
    drop(loader);
    // The threads held the source; all of them have been joined.
    assert_eq!(Arc::strong_count(&source), 1);
}

/// A source that makes examples as they are asked for.
struct Endless;

impl Source for Endless {
    fn len(&self) -> usize {
        usize::MAX / 2
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        Ok(Sample { values: vec![0.0], shape: vec![1], label: 0, index })
    }
}

#[test]
fn an_endless_source_is_read_in_its_own_order_without_a_list_of_it() {
    let mut loader = Loader::new(Endless, 4).shuffle(false);
    assert_eq!(loader.next_batch().unwrap().indices, [0, 1, 2, 3]);
    let far = State { batch: 1 << 50, ..loader.state() };
    loader.resume(&far).unwrap();
    assert_eq!(loader.next_batch().unwrap().indices[0], 1 << 52);
}
