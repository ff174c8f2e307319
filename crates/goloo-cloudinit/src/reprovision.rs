//! Provisions a machine again: a shell script that runs as root through goloo's account, and makes cloud-init take
//! another user-data at the next boot and at all later ones.

use goloo_model::name::OperationId;

use super::identity::{SETUP, Script};
use super::script::squeezed;

const REPROVISION: &str = include_str!("guest/reprovision.sh");
const USE_USER_DATA: &str = include_str!("guest/use-user-data.sh");

/// What the script prints if the machine has booted since this operation prepared it.
pub const BOOTED: &str = "@goloo:booted@";

/// A command that succeeds if cloud-init took the user-data at this boot; as root.
pub const TOOK_USER_DATA: &str = "cmp -s /opt/goloo/user-data /var/lib/cloud/instance/user-data.txt";

/// The script for user-data of this size, which is its standard input. For the same operation it is idempotent.
pub fn reprovision_script(operation: &OperationId, user_data: &[u8]) -> String {
    let size = user_data.len();
    // The common part closes standard input.
    let mut script = Script::new("exec 3<&0\n");
    script.text(&squeezed(SETUP));
    script.line(&format!("operation={operation} size={size} booted={BOOTED}"));
    script.nested("put_hook() {\nput 0755 /opt/goloo/use-user-data <<'GOLOO-PART'", USE_USER_DATA);
    script.line("}");
    script.text(&squeezed(REPROVISION));
    script.into_text()
}
