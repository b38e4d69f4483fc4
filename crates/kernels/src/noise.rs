//! Uniform noise that, as dropout's masks, is a function of where it is used and not of a generator's state.

use crate::dropout::{Dropout, DropoutKey};
use crate::vector;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

/// Numbers from the uniform distribution on (-1, 1), made on the host: the same on every device.
///
/// # Shapes
/// - returns `shape`, `[rows, ..]`; a row's numbers follow from the key and the row's number alone
pub fn uniform_noise<const D: usize>(shape: [usize; D], key: DropoutKey, device: &Device) -> Tensor<D> {
    let row_length = shape[1..].iter().product::<usize>().max(1);
    let mut values = vec![0.0; shape[0] * row_length];
    let of_step = Dropout { probability: 0.0, key };
    values.par_chunks_mut(row_length).enumerate().for_each(|(row, values)| {
        vector::uniform(values, of_step.row(row).keys);
    });
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_uniform_and_a_function_of_its_key_and_row() {
        let device = Device::flex();
        let key = DropoutKey { seed: 1, step: 2, site: 3, first_row: 0 };
        let of = |rows, key| -> Vec<f32> {
            uniform_noise([rows, 50_000], key, &device).into_data().try_into_vec().expect("f32")
        };
        let values = of(2, key);
        let n = values.len() as f64;
        let moment = |power| values.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0 / 3.0).abs() < 0.01, "{} {}", moment(1), moment(2));
        assert!(values.iter().all(|value| value.abs() < 1.0));
        assert_eq!(values[50_000..], of(1, DropoutKey { first_row: 1, ..key }));
        assert_ne!(values[..50_000], of(1, DropoutKey { step: 3, ..key }));
    }
}
