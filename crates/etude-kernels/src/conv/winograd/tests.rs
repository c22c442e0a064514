//! Winograd against the definition in f64, and its error against that of the plain sum.

use super::*;
use crate::conv;
use crate::conv::tests::products;
use crate::threads::set_threads;

fn geometry(batch: usize, channels: [usize; 2], size: [usize; 2], padding: [usize; 2]) -> ConvGeometry {
    ConvGeometry {
        batch,
        groups: 1,
        in_channels: channels[0],
        out_channels: channels[1],
        input: [1, size[0], size[1]],
        kernel: [1, 3, 3],
        stride: [1; 3],
        padding: [0, padding[0], padding[1]],
        dilation: [1; 3],
        output: [1, size[0] + 2 * padding[0] - 2, size[1] + 2 * padding[1] - 2],
    }
}

/// Every way: inputs of one's own or shared, weights kept or not, one block or many, rows that are cut, odd everything.
fn geometries() -> Vec<ConvGeometry> {
    let grouped = ConvGeometry { groups: 2, ..geometry(2, [34, 48], [9, 7], [1, 1]) };
    let asymmetric = geometry(1, [16, 20], [11, 13], [2, 0]);
    vec![
        geometry(2, [16, 16], [8, 8], [1, 1]),
        geometry(1, [17, 33], [3, 3], [1, 1]),
        geometry(3, [35, 19], [5, 9], [0, 1]),
        geometry(9, [40, 16], [4, 4], [1, 1]),
        grouped,
        ConvGeometry { output: [1, 15, 12], ..asymmetric },
        geometry(1, [16, 17], [4, 5], [3, 7]),
        geometry(1, [16, 18], [6, 270], [1, 1]),
        geometry(1, [16, 18], [6, 270], [1, 9]),
        geometry(3, [130, 18], [13, 12], [1, 1]),
        geometry(8, [144, 36], [9, 10], [1, 1]),
        geometry(4, [32, 34], [16, 16], [1, 1]),
    ]
}

/// Values without a pattern that the transforms could cancel.
fn values(count: usize, salt: u64) -> Vec<f32> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next() + next() + next()).collect()
}

type Three = [Vec<f32>; 3];

fn run(g: &ConvGeometry, [x, w, gy]: &Three, fast: bool) -> Three {
    let nan = |like: &Vec<f32>| vec![f32::NAN; like.len()];
    let (mut y, mut gx, mut gw) = (nan(gy), nan(x), nan(w));
    if fast {
        forward(g, x, w, &mut y);
        input_gradient(g, gy, w, &mut gx);
        weight_gradient(g, x, gy, &mut gw);
    } else {
        conv::plain_forward(g, x, w, &mut y);
        conv::plain_input_gradient(g, gy, w, &mut gx);
        conv::weight::gradient(g, x, gy, &mut gw);
    }
    [y, gx, gw]
}

fn inputs(g: &ConvGeometry) -> Three {
    [values(g.input_size(), 1), values(g.weight_size(), 2), values(g.output_size(), 3)]
}

#[test]
fn the_error_is_a_small_multiple_of_the_plain_sums() {
    let mut total = [[0.0, 0.0]; 3];
    for g in geometries() {
        let given = inputs(&g);
        let mut exact: [Vec<(f64, f64)>; 3] =
            [vec![(0.0, 0.0); given[2].len()], vec![(0.0, 0.0); given[0].len()], vec![(0.0, 0.0); given[1].len()]];
        products(&g, |x, w, y| {
            let [xv, wv, yv] = [given[0][x] as f64, given[1][w] as f64, given[2][y] as f64];
            let [y_sums, x_sums, w_sums] = &mut exact;
            for (sum, term) in [(&mut y_sums[y], xv * wv), (&mut x_sums[x], yv * wv), (&mut w_sums[w], yv * xv)] {
                sum.0 += term;
                sum.1 += term.abs();
            }
        });
        cpu::forced::on_each_set(|_| {
            for (way, fast) in [true, false].into_iter().enumerate() {
                for (part, got) in run(&g, &given, fast).iter().enumerate() {
                    let largest = exact[part].iter().map(|e| e.1).fold(0.0, f64::max);
                    let mut squares = 0.0;
                    for (i, (got, &(sum, _))) in got.iter().zip(&exact[part]).enumerate() {
                        let error = (*got as f64 - sum).abs() / largest;
                        // Against the largest sum of absolute products: a tile's outputs share the rounding of its points.
                        let bound = if fast { 8.0 } else { 3.0 } * f32::EPSILON as f64;
                        assert!(error <= bound, "part {part} of {g:?}, element {i}: {got}, not {sum}");
                        squares += error * error;
                    }
                    total[part][way] += (squares / got.len() as f64).sqrt();
                }
            }
        });
    }
    for (part, [fast, plain]) in total.into_iter().enumerate() {
        assert!(fast < 3.5 * plain, "part {part}: mean error {fast:e}, of the plain sum {plain:e}");
    }
}

#[test]
fn same_bits_on_any_number_of_threads() {
    for g in geometries() {
        let given = inputs(&g);
        let run = |threads| {
            set_threads(threads);
            let all = run(&g, &given, true);
            set_threads(0);
            all.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5), "{g:?}");
    }
}

#[test]
fn chosen_by_size_where_it_is_faster() {
    assert!(is_faster(&geometry(32, [64, 64], [32, 32], [1, 1])));
    assert!(is_faster(&geometry(32, [512, 512], [4, 4], [1, 1])));
    assert!(!is_faster(&geometry(32, [64, 64], [2, 2], [1, 1])));
    assert!(!is_faster(&geometry(32, [3, 64], [32, 32], [1, 1])));
    let g = geometry(8, [32, 32], [16, 16], [1, 1]);
    assert!(is_faster(&g));
    assert!(
        !is_faster(&ConvGeometry { stride: [1, 2, 2], ..g }) && !is_faster(&ConvGeometry { dilation: [1, 1, 2], ..g })
    );
}

#[test]
fn exact_mode_gives_the_plain_sums() {
    let g = geometry(2, [16, 16], [8, 8], [1, 1]);
    let given = inputs(&g);
    let mut y = vec![0.0; g.output_size()];
    conv::set_exact(Some(true));
    conv::forward(&g, &given[0], &given[1], &mut y);
    conv::set_exact(None);
    assert_eq!(y, run(&g, &given, false)[0]);
}
