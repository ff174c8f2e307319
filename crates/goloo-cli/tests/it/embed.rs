//! The example program without a terminal (`examples/embed`), with QEMU's stand-in.

use std::process::{Command, Stdio};

use crate::common::{Ran, World, goloo};

#[test]
fn a_program_without_a_terminal_creates_resumes_and_deletes_a_vm() {
    let world = World::new();
    world.ssh_finds(r#"{"status": "done", "errors": [], "recoverable_errors": {}}"#);
    let mut embed = Command::new(goloo().with_file_name("examples").join("embed"));
    world.settle(&mut embed);
    let ran = Ran(embed.args(["hello", "stacks"]).stdin(Stdio::null()).output().unwrap()).expect(0);
    let said = ran.stdout();
    assert!(said.starts_with("interrupted while hello was starting\nhello is ready\ndeleted; "), "{ran:?}");
    world.assert_empty("after the program");
}
