//! Object stores keep the contract that every store keeps.

mod object_common;

mod memory {
    use super::object_common::Memory;
    goloo_testkit::store_suite!(Memory::new);
}

/// Emulators of S3; they run with the slow tests.
mod emulator_ministack {
    use super::object_common::S3;
    goloo_testkit::store_suite!(S3::ministack);
}

mod emulator_moto {
    use super::object_common::S3;
    goloo_testkit::store_suite!(S3::moto);
}
