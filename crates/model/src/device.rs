//! Where a model runs: choosing, probing and listing devices.

use burn::cubecl::config::cache::CacheConfig;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use burn_wgpu::wgpu;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Once;

/// The device a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A hardware GPU if one answers a probe, else [`DeviceChoice::NdArray`].
    Auto,
    /// A GPU through wgpu: the best one, or the one with this number in [`adapters`]. A software adapter only by number or
    /// where there is nothing else.
    Wgpu(Option<usize>),
    /// The CPU, through `burn-ndarray`.
    NdArray,
    /// The CPU, through `burn-flex`.
    Flex,
    /// An NVIDIA GPU by number, in a build with the `cuda` feature.
    Cuda(usize),
}

/// A device that could not be opened.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{0}")]
pub struct DeviceError(pub String);

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (kind, number) = match text.split_once(':') {
            Some((kind, number)) => {
                let number: usize = Some(number)
                    .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .ok_or_else(|| {
                        DeviceError(format!("device `{text}`: `{number}` is not a number; hint: `wgpu:0`"))
                    })?;
                (kind, Some(number))
            }
            None => (text, None),
        };
        match (kind, number) {
            ("auto", None) => Ok(Self::Auto),
            ("wgpu", number) => Ok(Self::Wgpu(number)),
            ("ndarray", None) => Ok(Self::NdArray),
            ("flex", None) => Ok(Self::Flex),
            ("cuda", number) => Ok(Self::Cuda(number.unwrap_or(0))),
            _ => Err(DeviceError(format!("unknown device `{text}`; hint: auto, wgpu, wgpu:N, ndarray, flex or cuda"))),
        }
    }
}

/// A device that answered.
#[derive(Clone, Debug)]
pub struct OpenDevice {
    /// The device, outside autodiff.
    pub device: Device,
    /// Its name and why it was taken, for the person.
    pub reason: String,
}

/// An adapter wgpu sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The number to choose it by: `wgpu:N`.
    pub index: usize,
    /// The adapter's own name.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// Vulkan, Metal, Dx12 or Gl.
    pub api: String,
    /// Whether it computes on the processor.
    pub software: bool,
    kind: DeviceKind,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let software = if self.software { ", software" } else { "" };
        write!(f, "{} ({}, {}{software})", self.name, self.api, self.driver)
    }
}

/// Every adapter of the graphics API that wgpu would take: the first of Vulkan, Metal, DX12 and GL with a hardware
/// adapter, else the first with any. The order is that of the indices.
pub fn adapters() -> Vec<Adapter> {
    let mut software_only = Vec::new();
    for api in [wgpu::Backend::Vulkan, wgpu::Backend::Metal, wgpu::Backend::Dx12, wgpu::Backend::Gl] {
        let found = adapters_of(api);
        if found.iter().any(|adapter| !adapter.software) {
            return found;
        }
        if software_only.is_empty() {
            software_only = found;
        }
    }
    software_only
}

fn adapters_of(api: wgpu::Backend) -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: api.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let infos = pollster::block_on(instance.enumerate_adapters(api.into()));
    // Burn numbers adapters within their type.
    let (mut discrete, mut integrated, mut virtual_gpus) = (0, 0, 0);
    let next = |counter: &mut usize| {
        *counter += 1;
        *counter - 1
    };
    infos
        .iter()
        .map(wgpu::Adapter::get_info)
        .enumerate()
        .map(|(index, info)| {
            let kind = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(next(&mut discrete)),
                wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(next(&mut integrated)),
                wgpu::DeviceType::VirtualGpu => DeviceKind::VirtualGpu(next(&mut virtual_gpus)),
                wgpu::DeviceType::Cpu => DeviceKind::Cpu,
                wgpu::DeviceType::Other => DeviceKind::DefaultDevice,
            };
            Adapter {
                index,
                name: info.name,
                driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
                api: format!("{:?}", info.backend),
                software: info.device_type == wgpu::DeviceType::Cpu,
                kind,
            }
        })
        .collect()
}

impl Adapter {
    /// The Burn device of this adapter. Nothing is opened yet.
    pub fn device(&self) -> Device {
        keep_tuning();
        Device::wgpu(self.kind.clone())
    }
}

/// Keeps which kernels are the fastest on a GPU in the user's cache directory (`~/.cache/cubecl`), for the next run. Without
/// this they go to the build directory of whatever Rust project the run is started in. A `cubecl.toml` and CubeCL's
/// environment variables still count.
fn keep_tuning() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        if matches!(config.environment.path, CacheConfig::Target) {
            config.environment.path = CacheConfig::Global;
        }
        // Where a configuration is loaded already a device is too, and keeps to it.
        CubeClRuntimeConfig::try_set(config);
    });
}

/// The CPU through `burn-ndarray`, which 0.22 deprecates in favour of flex and which stays this project's fallback.
pub fn ndarray() -> Device {
    #[allow(deprecated)]
    Device::ndarray()
}

impl DeviceChoice {
    /// Opens the device: it is there and computes a small matrix product right.
    ///
    /// # Errors
    /// No such device, no adapter, a feature that is not built in, or a device that fails the probe.
    pub fn open(self) -> Result<OpenDevice, DeviceError> {
        match self {
            Self::NdArray => Ok(OpenDevice { device: ndarray(), reason: "ndarray (CPU), as asked".into() }),
            Self::Flex => Ok(OpenDevice { device: Device::flex(), reason: "flex (CPU), as asked".into() }),
            Self::Auto => Ok(Self::open_auto()),
            Self::Wgpu(number) => Self::open_wgpu(number),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => {
                keep_tuning();
                let device = Device::cuda(number);
                probe(&device).map_err(|why| DeviceError(format!("cuda:{number} {why}")))?;
                Ok(OpenDevice { device, reason: format!("cuda:{number}, as asked") })
            }
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError(
                "this build has no CUDA; hint: build with `--features cuda`, or use `wgpu`, which drives NVIDIA GPUs too".into(),
            )),
        }
    }

    fn open_auto() -> OpenDevice {
        let adapters = adapters();
        let mut failures = Vec::new();
        for adapter in adapters.iter().filter(|adapter| !adapter.software) {
            let device = adapter.device();
            match probe(&device) {
                Ok(()) => {
                    return OpenDevice {
                        device,
                        reason: format!("wgpu:{} {adapter}: a hardware GPU that answers", adapter.index),
                    };
                }
                Err(why) => failures.push(format!("{adapter} {why}")),
            }
        }
        let why = match (failures.is_empty(), adapters.is_empty()) {
            (false, _) => failures.join("; "),
            (true, true) => "no GPU found".into(),
            (true, false) => "only a software GPU found, which is slower than the CPU itself".into(),
        };
        OpenDevice { device: ndarray(), reason: format!("ndarray (CPU): {why}") }
    }

    fn open_wgpu(number: Option<usize>) -> Result<OpenDevice, DeviceError> {
        let adapters = adapters();
        let chosen = match number {
            Some(number) => adapters.get(number),
            None => adapters.iter().find(|adapter| !adapter.software).or(adapters.first()),
        };
        let Some(adapter) = chosen else {
            let found = match adapters.len() {
                0 => "no GPU adapter was found; hint: install the GPU's Vulkan driver, or use `--device auto` or `ndarray`".into(),
                n => format!("there is no adapter {}; hint: `firebox devices` lists {n}", number.unwrap_or(0)),
            };
            return Err(DeviceError(format!("device `wgpu`: {found}")));
        };
        let device = adapter.device();
        probe(&device).map_err(|why| DeviceError(format!("wgpu:{} {adapter} {why}", adapter.index)))?;
        Ok(OpenDevice { device, reason: format!("wgpu:{} {adapter}, as asked", adapter.index) })
    }
}

/// Checks that the device multiplies a small matrix right.
///
/// # Errors
/// Why not, to follow the device's name: "fails: ..." or "computes a wrong matrix product".
pub fn probe(device: &Device) -> Result<(), String> {
    const N: usize = 33; // not a multiple of any tile
    let a: Vec<f32> = (0..N * N).map(|i| (i % 7) as f32 - 3.0).collect();
    let b: Vec<f32> = (0..N * N).map(|i| (i % 5) as f32 - 2.0).collect();
    let mut expected = vec![0.0; N * N];
    for row in 0..N {
        for column in 0..N {
            expected[row * N + column] = (0..N).map(|k| a[row * N + k] * b[k * N + column]).sum::<f32>();
        }
    }
    // A driver that fails does so by panicking, sometimes on another thread: then the read below fails instead.
    let product = catch_unwind(AssertUnwindSafe(|| {
        let matrix = |values: &Vec<f32>| Tensor::<2>::from_data(TensorData::new(values.clone(), [N, N]), device);
        matrix(&a).matmul(matrix(&b)).try_into_data()
    }));
    let values: Vec<f32> = match product {
        Ok(Ok(data)) => data.convert::<f32>().try_into_vec().map_err(|e| format!("fails: {e:?}"))?,
        Ok(Err(error)) => return Err(format!("fails: {error}")),
        Err(_) => return Err("fails to compute".into()),
    };
    // Small whole numbers: exact in f32, in any order of summation.
    if values == expected { Ok(()) } else { Err("computes a wrong matrix product".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_name_and_number() {
        for (name, choice) in [
            ("auto", DeviceChoice::Auto),
            ("wgpu", DeviceChoice::Wgpu(None)),
            ("wgpu:12", DeviceChoice::Wgpu(Some(12))),
            ("ndarray", DeviceChoice::NdArray),
            ("flex", DeviceChoice::Flex),
            ("cuda:1", DeviceChoice::Cuda(1)),
        ] {
            assert_eq!(name.parse(), Ok(choice), "{name}");
        }
        for name in ["", "gpu", "wgpu:", "wgpu:-1", "wgpu:+1", "wgpu:1:2", "flex:0", "auto:0", "WGPU"] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_device_that_computes_right_passes_the_probe() {
        assert_eq!(probe(&ndarray()), Ok(()));
        assert_eq!(probe(&Device::flex()), Ok(()));
    }
}
