//! The names of an environment's machines in the hosts file of one of them: a shell script that runs as root through
//! goloo's account, and again at each boot.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::identity::{SETUP, Script};
use super::script::squeezed;
use super::update::UPDATE;

const NAMES: &str = include_str!("guest/names.sh");

/// The script. `names` are the words after each address; without any, the block in the file is removed.
pub fn names_script(names: &[(IpAddr, Vec<String>)]) -> String {
    let mut script = Script::new(&format!("{}{}", squeezed(SETUP), squeezed(UPDATE)));
    script.later("names", &names_part(names));
    script.line("unit_before_sshd");
    script.line("reload_changed_units");
    script.line("exit $failed");
    script.into_text()
}

fn names_part(names: &[(IpAddr, Vec<String>)]) -> String {
    let mut part = Script::new("names() {\n");
    match block(names) {
        Some(block) => part.here("cat", &block),
        None => part.line(":"),
    }
    part.line("}");
    part.text(&squeezed(NAMES));
    part.into_text()
}

fn block(names: &[(IpAddr, Vec<String>)]) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let mut block = "# BEGIN goloo environment\n".to_owned();
    for (address, names) in names {
        let _ = writeln!(block, "{address} {}", names.join(" "));
    }
    block.push_str("# END goloo environment\n");
    Some(block)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn run(hosts: &Path, names: &[(IpAddr, Vec<String>)]) -> String {
        let part = names_part(names).replace("/etc/hosts", &hosts.display().to_string());
        let part = format!("umask 077\n{part}");
        assert!(Command::new("/bin/sh").args(["-c", &part]).status().unwrap().success());
        fs::read_to_string(hosts).unwrap()
    }

    fn names(last: u8) -> Vec<(IpAddr, Vec<String>)> {
        vec![(IpAddr::from([10, 88, 0, last]), vec!["db".to_owned(), "db.shop".to_owned()])]
    }

    #[test]
    fn the_names_replace_those_of_before_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        let own = "127.0.0.1 localhost\n# mine\n10.0.0.1 other";
        fs::write(&hosts, format!("{own}\n")).unwrap();
        let with = |last: u8| {
            format!("{own}\n# BEGIN goloo environment\n10.88.0.{last} db db.shop\n# END goloo environment\n")
        };
        for last in [2, 2, 7] {
            assert_eq!(run(&hosts, &names(last)), with(last));
        }
        let file = || fs::metadata(&hosts).unwrap();
        assert_eq!(file().permissions().mode() & 0o777, 0o644, "all users of the machine read it");
        let before = file().ino();
        run(&hosts, &names(7));
        assert_eq!(file().ino(), before, "nothing has changed");
        // What somebody added after the block stays too.
        let added = format!("{}10.0.0.9 added\n", with(7));
        fs::write(&hosts, added).unwrap();
        assert_eq!(run(&hosts, &names(2)), with(2).replace("other\n", "other\n10.0.0.9 added\n"));
        assert_eq!(run(&hosts, &[]), format!("{own}\n10.0.0.9 added\n"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn the_names_are_written_now_and_at_each_boot() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for place in ["etc", "run", "opt"] {
            fs::create_dir(root.join(place)).unwrap();
        }
        let hosts = root.join("etc/hosts");
        let own = "127.0.0.1 localhost\n";
        fs::write(&hosts, own).unwrap();
        let here = |script: &str| {
            ["etc", "run", "opt"].iter().fold(script.to_owned(), |script, place| {
                script.replace(&format!("/{place}/"), &format!("{}/", root.join(place).display()))
            })
        };
        let script = here(&names_script(&names(2)));
        let run = |script: &str| Command::new("/bin/sh").args(["-c", script]).status().unwrap().success();
        assert!(run(&script));
        let told = fs::read_to_string(&hosts).unwrap();
        assert!(told.contains("10.88.0.2 db db.shop"), "{told}");

        fs::write(&hosts, own).unwrap();
        let unit = root.join("etc/systemd/system/multi-user.target.wants/goloo-later.service");
        let unit = fs::read_to_string(unit).unwrap();
        let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        assert!(run(&command.replace("$$", "$")));
        assert_eq!(fs::read_to_string(&hosts).unwrap(), told);
        assert_eq!(fs::read_dir(root.join("opt/goloo/later")).unwrap().count(), 1);
        assert!(run(&here(&names_script(&names(7)))));
        assert_eq!(fs::read_dir(root.join("opt/goloo/later")).unwrap().count(), 1, "in place of those");

        fs::create_dir(root.join("etc/hosts.goloo-new")).unwrap();
        assert!(!run(&script), "what fails is an error");
    }

    #[test]
    fn the_whole_script_is_a_valid_shell_script() {
        for names in [names(2), Vec::new()] {
            let script = names_script(&names);
            assert!(
                Command::new("/bin/sh").args(["-n", "-c", &script]).status().unwrap().success(),
                "{script}"
            );
        }
    }
}
