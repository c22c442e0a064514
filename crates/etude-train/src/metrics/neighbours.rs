//! A map of points with many coordinates, on which neighbours stay neighbours.

use super::spectrum::principal_components;

/// Steps in which attraction is twelve times too strong, so that clusters find together first.
const GATHER: usize = 100;

/// A plane place `x, y` for each row of `width` numbers, by t-SNE (van der Maaten and Hinton, 2008): row `i` picks row `j`
/// as its neighbour with probability `∝ exp(−βᵢ|rᵢ − rⱼ|²)`, `βᵢ` such that it has `perplexity` neighbours in effect; on
/// the map with `∝ 1/(1 + |yᵢ − yⱼ|²)`; the divergence of the two is lowered in `steps` steps.
///
/// It begins at the principal axes and draws nothing, so that the same rows give the same map. Distances between far
/// groups mean little. Costs `steps · rows²`: meant for a thousand rows.
#[track_caller]
pub fn neighbour_map(rows: &[f64], width: usize, perplexity: f64, steps: usize) -> Vec<f64> {
    let count = rows.len() / width;
    let p = neighbours(rows, width, perplexity.min((count - 1) as f64 / 3.0));
    let mut places = principal_components(rows, width, 2.min(width));
    if width == 1 {
        places = places.iter().flat_map(|&x| [x, 0.0]).collect();
    }
    let spread = places.iter().map(|x| x * x).sum::<f64>() / count as f64;
    places.iter_mut().for_each(|x| *x *= 1e-2 / spread.sqrt().max(f64::MIN_POSITIVE));
    let (mut speed, mut gain) = (vec![0.0; 2 * count], vec![1.0f64; 2 * count]);
    let rate = (count as f64 / 48.0).max(50.0);
    for step in 0..steps {
        let (pull, momentum) = if step < GATHER { (12.0, 0.5) } else { (1.0, 0.8) };
        let slope = slope(&p, &places, pull);
        for i in 0..2 * count {
            // A coordinate that keeps its direction may go faster (Jacobs, 1988).
            gain[i] = if slope[i] * speed[i] < 0.0 { gain[i] + 0.2 } else { (gain[i] * 0.8).max(0.01) };
            speed[i] = momentum * speed[i] - rate * gain[i] * slope[i];
            places[i] += speed[i];
        }
    }
    places
}

/// `4·Σⱼ (pull·pᵢⱼ − qᵢⱼ)·(yᵢ − yⱼ)/(1 + |yᵢ − yⱼ|²)` for each row.
fn slope(p: &[f64], places: &[f64], pull: f64) -> Vec<f64> {
    let count = places.len() / 2;
    let (mut sum, mut near, mut far) = (0.0, vec![0.0; 2 * count], vec![0.0; 2 * count]);
    for i in 0..count {
        let (x, y) = (places[2 * i], places[2 * i + 1]);
        let (mut total, mut towards, mut away) = (0.0, [0.0; 2], [0.0; 2]);
        for (place, p) in places.chunks_exact(2).zip(&p[i * count..]) {
            let (dx, dy) = (x - place[0], y - place[1]);
            let q = 1.0 / (1.0 + dx * dx + dy * dy);
            total += q;
            towards = [towards[0] + p * q * dx, towards[1] + p * q * dy];
            away = [away[0] + q * q * dx, away[1] + q * q * dy];
        }
        sum += total - 1.0; // without itself
        near[2 * i..][..2].copy_from_slice(&towards);
        far[2 * i..][..2].copy_from_slice(&away);
    }
    near.iter().zip(&far).map(|(near, far)| 4.0 * (pull * near - far / sum)).collect()
}

/// The symmetric probabilities `(pⱼ|ᵢ + pᵢ|ⱼ)/2n`, `[n, n]`.
fn neighbours(rows: &[f64], width: usize, perplexity: f64) -> Vec<f64> {
    let count = rows.len() / width;
    let row = |i: usize| &rows[i * width..][..width];
    let mut p = vec![0.0; count * count];
    for i in 0..count {
        let apart = |j: usize| row(i).iter().zip(row(j)).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let apart: Vec<f64> = (0..count).map(apart).collect();
        let nearest = (0..count).filter(|&j| j != i).map(|j| apart[j]).fold(f64::INFINITY, f64::min);
        let line = &mut p[i * count..][..count];
        // Fifty halvings of the range in which β lies.
        let (mut low, mut high, mut beta) = (0.0, f64::INFINITY, 1.0);
        for _ in 0..50 {
            let (mut sum, mut weighted) = (0.0, 0.0);
            for (j, (p, apart)) in line.iter_mut().zip(&apart).enumerate() {
                *p = if j == i { 0.0 } else { (-beta * (apart - nearest)).exp() };
                sum += *p;
                weighted += *p * (apart - nearest);
            }
            line.iter_mut().for_each(|p| *p /= sum);
            let entropy = f64::ln(sum) + beta * weighted / sum;
            if entropy > perplexity.ln() {
                low = beta;
                beta = if high.is_finite() { (low + high) / 2.0 } else { beta * 2.0 };
            } else {
                high = beta;
                beta = (low + high) / 2.0;
            }
        }
    }
    let both = |at: usize| (p[at] + p[at % count * count + at / count]) / (2 * count) as f64;
    (0..count * count).map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stay_together() {
        // Three groups of twenty in eight dimensions, with some scatter that has no pattern.
        let number = |i: usize, j: usize| {
            let centre = if j == i / 20 { 3.0 } else { 0.0 };
            centre + ((i * i * 7 + j * j * 13 + i * j) as f64 * 0.7).sin() * 0.5
        };
        let rows: Vec<f64> = (0..60).flat_map(|i| (0..8).map(move |j| number(i, j))).collect();
        let map = neighbour_map(&rows, 8, 10.0, 250);
        assert_eq!(map, neighbour_map(&rows, 8, 10.0, 250));
        let apart = |i: usize, j: usize| (map[2 * i] - map[2 * j]).hypot(map[2 * i + 1] - map[2 * j + 1]);
        for i in 0..60 {
            let nearest = (0..60).filter(|&j| j != i).min_by(|&a, &b| apart(i, a).total_cmp(&apart(i, b))).unwrap();
            assert_eq!(nearest / 20, i / 20, "row {i}");
        }
        // Rows that are all the same, and rows of one number, do no harm.
        assert!(neighbour_map(&[1.0; 30], 3, 5.0, 20).iter().all(|x| x.is_finite()));
        assert!(neighbour_map(&[1.0, 2.0, 4.0, 9.0], 1, 5.0, 20).iter().all(|x| x.is_finite()));
    }

    #[test]
    fn every_row_has_as_many_neighbours_as_asked_for() {
        let rows: Vec<f64> = (0..80).map(|i| ((i * i) as f64 * 0.7).sin()).collect();
        let p = neighbours(&rows, 2, 6.0);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((0..40).all(|i| p[i * 40 + i] == 0.0));
    }
}
