//! Which instructions a loop is compiled for, and which the processor has.

/// Compiles one body for each instruction set. Inside it `F` tells [`fma`] whether a fused multiply-add is cheap.
macro_rules! vectorized {
    ($($(#[$doc:meta])* fn $name:ident($($a:ident: $t:ty),* $(,)?) $(-> $r:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[inline]
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name($($a: $t),*) $(-> $r)? {
            #[inline(always)]
            fn body<const F: bool>($($a: $t),*) $(-> $r)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
                fn wide($($a: $t),*) $(-> $r)? { body::<true>($($a),*) }
                #[target_feature(enable = "avx2,fma")]
                fn narrow($($a: $t),*) $(-> $r)? { body::<true>($($a),*) }
                if $crate::vector::avx512() {
                    // SAFETY: the processor has every instruction set the function is compiled for.
                    return unsafe { wide($($a),*) };
                }
                if $crate::vector::avx2() {
                    // SAFETY: as above.
                    return unsafe { narrow($($a),*) };
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }>($($a),*)
        }
    )*};
}
pub(crate) use vectorized;

/// The variable that has the tests of this crate run again as on a processor with fewer instructions: "avx2" or "none".
#[cfg(test)]
pub(crate) const INSTRUCTIONS: &str = "FIREBOX_TEST_INSTRUCTIONS";

/// Whether an instruction set may be used if the processor has it: not all of them in those tests.
#[cfg(all(test, target_arch = "x86_64"))]
fn allowed(name: &str) -> bool {
    static MOST: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var(INSTRUCTIONS).ok());
    MOST.as_ref().is_none_or(|most| most == name)
}

/// The same elsewhere.
#[cfg(all(not(test), target_arch = "x86_64"))]
const fn allowed(_: &str) -> bool {
    true
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn avx512() -> bool {
    allowed("avx512")
        && std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512dq")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512vl")
        && std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn avx2() -> bool {
    allowed("avx2") && std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
}

/// `a * b + c`. Without the instruction `mul_add` calls the C library, which is slow.
#[inline(always)]
pub(crate) fn fma<const F: bool>(a: f32, b: f32, c: f32) -> f32 {
    if F { a.mul_add(b, c) } else { a * b + c }
}
