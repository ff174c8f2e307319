//! Object stores fulfil the contract of all stores.

mod memory {
    use crate::object_common::Memory;
    goloo_testkit::store_suite!(Memory::new);
}

/// One emulator for all cases, each in a separate folder: emulators start slowly.
mod emulators {
    use crate::object_common::S3;

    fn beside(s3: S3) -> impl Fn(&str) -> S3 {
        move |case| s3.beside(case)
    }

    goloo_testkit::store_suite!(emulator_ministack_keeps_every_rule, beside(S3::ministack()));
    goloo_testkit::store_suite!(emulator_moto_keeps_every_rule, beside(S3::moto()));
}
