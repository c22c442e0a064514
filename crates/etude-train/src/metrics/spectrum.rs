//! Symmetric matrices taken apart, and what is made of that: principal axes, the distance between two clouds of points.

/// Eigenvalues of a symmetric `size`×`size` matrix, falling, and their unit vectors, one a row, by Jacobi's rotations
/// (Golub and Van Loan, Matrix Computations, section 8.5). Meant for hundreds of rows, not thousands.
#[track_caller]
pub fn symmetric_eigen(matrix: &[f64], size: usize) -> (Vec<f64>, Vec<f64>) {
    assert!(matrix.len() == size * size, "symmetric_eigen: {} numbers for {size}×{size}", matrix.len());
    let mut a = matrix.to_vec();
    let mut vectors: Vec<f64> = (0..size * size).map(|at| f64::from(at % (size + 1) == 0)).collect();
    let scale = a.iter().map(|x| x * x).sum::<f64>();
    // Each sweep squares the rest that is off the diagonal; ten are plenty for f64, thirty a bound.
    for _ in 0..30 {
        let rest: f64 = (0..size).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * size + j].powi(2)).sum();
        if rest <= scale * 1e-30 {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut a, &mut vectors, size, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&i, &j| a[j * size + j].total_cmp(&a[i * size + i]));
    let values = order.iter().map(|&i| a[i * size + i]).collect();
    let rows = order.iter().flat_map(|&i| vectors[i * size..(i + 1) * size].iter().copied());
    (values, rows.collect())
}

/// One rotation in the plane of axes `p` and `q` that makes `a[p, q]` zero. The vectors are rows.
fn rotate(a: &mut [f64], vectors: &mut [f64], size: usize, p: usize, q: usize) {
    let off = a[p * size + q];
    if off == 0.0 {
        return;
    }
    let theta = (a[q * size + q] - a[p * size + p]) / (2.0 * off);
    let t = if theta >= 0.0 { 1.0 } else { -1.0 } / (theta.abs() + theta.hypot(1.0));
    let c = 1.0 / t.hypot(1.0);
    let s = t * c;
    for k in 0..size {
        let (x, y) = (a[k * size + p], a[k * size + q]);
        (a[k * size + p], a[k * size + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..size {
        let (x, y) = (a[p * size + k], a[q * size + k]);
        (a[p * size + k], a[q * size + k]) = (c * x - s * y, s * x + c * y);
        let (x, y) = (vectors[p * size + k], vectors[q * size + k]);
        (vectors[p * size + k], vectors[q * size + k]) = (c * x - s * y, s * x + c * y);
    }
}

/// Mean `[width]` and covariance `[width, width]` of rows of `width` numbers.
#[track_caller]
pub fn mean_and_covariance(rows: &[f64], width: usize) -> (Vec<f64>, Vec<f64>) {
    assert!(
        rows.len().is_multiple_of(width) && rows.len() > width,
        "covariance: {} numbers in rows of {width}",
        rows.len()
    );
    let count = (rows.len() / width) as f64;
    let mut mean = vec![0.0; width];
    rows.chunks_exact(width).for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / count));
    let mut covariance = vec![0.0; width * width];
    for row in rows.chunks_exact(width) {
        for i in 0..width {
            let x = (row[i] - mean[i]) / (count - 1.0);
            covariance[i * width..][..width].iter_mut().zip(row).zip(&mean).for_each(|((c, y), m)| *c += x * (y - m));
        }
    }
    (mean, covariance)
}

/// Coordinates of rows of `width` numbers along their `axes` principal axes (Pearson, 1901), row by row.
#[track_caller]
pub fn principal_components(rows: &[f64], width: usize, axes: usize) -> Vec<f64> {
    let (mean, covariance) = mean_and_covariance(rows, width);
    let (_, vectors) = symmetric_eigen(&covariance, width);
    let along = |row: &[f64], axis: usize| -> f64 {
        let vector = &vectors[axis * width..][..width];
        row.iter().zip(&mean).zip(vector).map(|((x, m), v)| (x - m) * v).sum()
    };
    rows.chunks_exact(width).flat_map(|row| (0..axes).map(move |axis| (row, axis))).map(|(r, a)| along(r, a)).collect()
}

/// The Fréchet distance, squared, between two clouds of rows of `width` numbers, each taken for a normal distribution:
/// `|μ₁ − μ₂|² + Tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½)` (Dowson and Landau, 1982; for generated pictures Heusel et al., 2017).
#[track_caller]
pub fn frechet_distance(a: &[f64], b: &[f64], width: usize) -> f64 {
    let ((mean_a, cov_a), (mean_b, cov_b)) = (mean_and_covariance(a, width), mean_and_covariance(b, width));
    // Tr (Σ₁Σ₂)^½ is the sum of the roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is symmetric.
    let (values, vectors) = symmetric_eigen(&cov_a, width);
    let mut root = vec![0.0; width * width];
    for (value, vector) in values.iter().zip(vectors.chunks_exact(width)) {
        for i in 0..width {
            for j in 0..width {
                root[i * width + j] += value.max(0.0).sqrt() * vector[i] * vector[j];
            }
        }
    }
    let product = multiply(&multiply(&root, &cov_b, width), &root, width);
    let (shared, _) = symmetric_eigen(&product, width);
    let apart: f64 = mean_a.iter().zip(&mean_b).map(|(x, y)| (x - y) * (x - y)).sum();
    let trace = |matrix: &[f64]| (0..width).map(|i| matrix[i * width + i]).sum::<f64>();
    apart + trace(&cov_a) + trace(&cov_b) - 2.0 * shared.iter().map(|value| value.max(0.0).sqrt()).sum::<f64>()
}

fn multiply(a: &[f64], b: &[f64], size: usize) -> Vec<f64> {
    let mut out = vec![0.0; size * size];
    for i in 0..size {
        for k in 0..size {
            let x = a[i * size + k];
            out[i * size..][..size].iter_mut().zip(&b[k * size..]).for_each(|(sum, y)| *sum += x * y);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without a pattern, the same every time.
    fn numbers(count: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * i) as f64 * 0.7 + i as f64).sin()).collect()
    }

    #[test]
    fn eigenvectors_make_the_matrix_again() {
        for size in [1, 2, 5, 24] {
            let x = numbers(size * size);
            let matrix: Vec<f64> = (0..size * size).map(|at| x[at] + x[at % size * size + at / size]).collect();
            let (values, vectors) = symmetric_eigen(&matrix, size);
            assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
            for i in 0..size {
                for j in 0..size {
                    let of = |k: usize| values[k] * vectors[k * size + i] * vectors[k * size + j];
                    let made: f64 = (0..size).map(of).sum();
                    assert!((made - matrix[i * size + j]).abs() < 1e-12, "{size}: {made} {}", matrix[i * size + j]);
                    let dot: f64 = (0..size).map(|k| vectors[i * size + k] * vectors[j * size + k]).sum();
                    assert!((dot - f64::from(i == j)).abs() < 1e-13);
                }
            }
        }
    }

    #[test]
    fn the_distance_of_known_clouds() {
        // In one dimension it is (m₁ − m₂)² + (s₁ − s₂)².
        let (a, b) = ([0.0, 2.0, 4.0], [10.0, 11.0, 12.0]);
        assert!((frechet_distance(&a, &b, 1) - (81.0 + 1.0)).abs() < 1e-12);
        let cloud = numbers(300);
        assert!(frechet_distance(&cloud, &cloud, 3).abs() < 1e-10);
        let moved: Vec<f64> = cloud.iter().map(|x| x + 2.0).collect();
        assert!((frechet_distance(&cloud, &moved, 3) - 12.0).abs() < 1e-9);
        // A constant column has no deviation, and does no harm.
        let flat: Vec<f64> = cloud.iter().enumerate().map(|(i, x)| if i % 3 == 0 { 1.0 } else { *x }).collect();
        assert!(frechet_distance(&flat, &flat, 3).abs() < 1e-10);
    }

    #[test]
    fn principal_axes_follow_the_spread() {
        let rows: Vec<f64> = (0..100).flat_map(|i| [i as f64, i as f64 + (i % 2) as f64 * 0.01]).collect();
        let found = principal_components(&rows, 2, 1);
        let whole = (found[99] - found[0]).abs();
        assert!((whole - 99.0 * 2f64.sqrt()).abs() < 0.02, "{whole}");
    }
}
