//! The allowed values of cloud-config's common keys, according to cloud-init 22.4 (Debian 12) and 25.1 (Debian 13):
//! whatever one of the two accepts is accepted.

use super::shape::Shape::{self, Any, Bool, Date, False, Form, Natural, Null, OneOf, Text, Whole, Words};
use super::shape::{List, Map, Others};

const fn list(items: Shape, min: usize, max: usize) -> List {
    List { items, min, max, is_unique: false }
}

const fn set(items: Shape, min: usize) -> List {
    List { items, min, max: usize::MAX, is_unique: true }
}

const fn map(keys: &'static [(&'static str, Shape)]) -> Map {
    Map { keys, others: None, required: &[], one_of: &[], min: 0, takes_hyphens: false }
}

/// A mapping with user-defined keys.
const fn named(value: Shape, min: usize) -> Map {
    let others = Others { names: is_name, form: "one line of text", is_open: false, value };
    Map { keys: &[], others: Some(others), required: &[], one_of: &[], min, takes_hyphens: false }
}

/// Like [`named`], but the keys needn't be texts.
const fn any_named(value: Shape, min: usize) -> Map {
    let others = Others { names: |_| true, form: "anything", is_open: true, value };
    Map { keys: &[], others: Some(others), required: &[], one_of: &[], min, takes_hyphens: false }
}

const MANY: usize = usize::MAX;
const TEXTS: Shape = Shape::List(&list(Text, 0, MANY));
const SOME_TEXTS: Shape = Shape::List(&list(Text, 1, MANY));
const DIFFERENT_TEXTS: Shape = Shape::List(&set(Text, 0));

/// The top-level keys of the document.
pub(super) const KEYS: &[(&str, Shape)] = &[
    ("allow_public_ssh_keys", Bool),
    ("apt", APT),
    ("apt_pipelining", OneOf(&[Whole, Bool, Words(&["none", "unchanged", "os"])])),
    ("apt_reboot_if_required", Bool),
    ("apt_update", Bool),
    ("apt_upgrade", Bool),
    ("authkey_hash", Text),
    ("bootcmd", Shape::List(&list(COMMAND, 1, MANY))),
    ("ca-certs", CA_CERTS),
    ("ca_certs", CA_CERTS),
    ("chpasswd", CHPASSWD),
    ("device_aliases", Shape::Map(&named(Text, 0))),
    ("disable_root", Bool),
    ("disable_root_opts", Text),
    ("disk_setup", Shape::Map(&named(Shape::Map(&map(DISK)), 0))),
    ("final_message", Text),
    ("fqdn", Text),
    ("fs_setup", Shape::List(&list(Shape::Map(&map(FILE_SYSTEM)), 0, MANY))),
    ("groups", OneOf(&[Text, GROUPS, Shape::List(&list(OneOf(&[Text, GROUPS]), 1, MANY))])),
    ("growpart", Shape::Map(&map(GROWPART))),
    ("hostname", Text),
    ("locale", OneOf(&[Text, Bool])),
    ("locale_configfile", Text),
    ("manage_etc_hosts", OneOf(&[Bool, Words(&["localhost", "template"])])),
    ("mount_default_fields", Shape::List(&list(OneOf(&[Text, Null]), 6, 6))),
    ("mounts", Shape::List(&list(Shape::List(&list(Text, 1, 6)), 1, MANY))),
    ("no_ssh_fingerprints", Bool),
    ("ntp", OneOf(&[Null, Shape::Map(&map(NTP))])),
    ("package_reboot_if_required", Bool),
    ("package_update", Bool),
    ("package_upgrade", Bool),
    ("packages", Shape::List(&list(OneOf(&[Text, VERSION, Shape::Map(&map(PACKAGES_OF))]), 1, MANY))),
    ("password", Text),
    ("power_state", POWER_STATE),
    ("prefer_fqdn_over_hostname", Bool),
    ("preserve_hostname", Bool),
    ("resize_rootfs", OneOf(&[Bool, Words(&["noblock"])])),
    ("runcmd", Shape::List(&list(OneOf(&[Text, TEXTS, Null]), 1, MANY))),
    ("snap", SNAP),
    ("ssh", SSH),
    ("ssh_authorized_keys", SOME_TEXTS),
    ("ssh_deletekeys", Bool),
    ("ssh_fp_console_blacklist", DIFFERENT_TEXTS),
    ("ssh_genkeytypes", Shape::List(&list(Words(&["ed25519", "ecdsa", "rsa", "dsa"]), 1, MANY))),
    ("ssh_import_id", TEXTS),
    ("ssh_key_console_blacklist", DIFFERENT_TEXTS),
    ("ssh_keys", SSH_KEYS),
    ("ssh_publish_hostkeys", Shape::Map(&map(&[("enabled", Bool), ("blacklist", TEXTS)]))),
    ("ssh_pwauth", OneOf(&[Bool, Text])),
    ("ssh_quiet_keygen", Bool),
    ("swap", Shape::Map(&map(SWAP))),
    ("timezone", Text),
    ("user", OneOf(&[Text, USER])),
    ("users", OneOf(&[Shape::List(&list(OneOf(&[USER, Text, TEXTS]), 0, MANY)), Text, ANY_MAP])),
    ("write_files", Shape::List(&list(FILE, 1, MANY))),
];

const COMMAND: Shape = OneOf(&[Text, TEXTS]);

const ANY_MAP: Shape = Shape::Map(&any_named(Any, 0));

const USER: Shape = Shape::Map(&Map {
    one_of: &["name", "snapuser"],
    takes_hyphens: true,
    ..map(&[
        ("name", Text),
        ("create_groups", Bool),
        ("doas", SOME_TEXTS),
        ("expiredate", Date),
        ("gecos", Text),
        ("groups", OneOf(&[Text, SOME_TEXTS, USER_GROUPS])),
        ("hashed_passwd", Text),
        ("homedir", Text),
        ("inactive", Text),
        ("lock_passwd", Bool),
        ("no_create_home", Bool),
        ("no_log_init", Bool),
        ("no_user_group", Bool),
        ("passwd", Text),
        ("plain_text_passwd", Text),
        ("primary_group", Text),
        ("selinux_user", Text),
        ("shell", Text),
        ("snapuser", Text),
        ("ssh_authorized_keys", SOME_TEXTS),
        ("ssh_import_id", SOME_TEXTS),
        ("ssh_redirect_user", Bool),
        ("sudo", OneOf(&[Text, Null, Shape::List(&list(OneOf(&[Text, Null]), 0, MANY)), Bool])),
        ("system", Bool),
        ("uid", OneOf(&[Whole, Text])),
    ])
});

const USER_GROUPS: Shape = Shape::Map(&Map {
    others: Some(Others { names: is_name, form: "one line of text", is_open: true, value: Null }),
    ..map(&[])
});

const GROUPS: Shape = Shape::Map(&named(OneOf(&[Text, SOME_TEXTS]), 0));

const FILE: Shape = Shape::Map(&Map {
    required: &["path"],
    ..map(&[
        ("path", Text),
        ("append", Bool),
        ("content", Text),
        ("defer", Bool),
        (
            "encoding",
            Words(&[
                "b64",
                "base64",
                "gz",
                "gzip",
                "gz+b64",
                "gz+base64",
                "gzip+b64",
                "gzip+base64",
                "text/plain",
            ]),
        ),
        ("owner", Text),
        ("permissions", Text),
        (
            "source",
            Shape::Map(&Map {
                required: &["uri"],
                ..map(&[("uri", Text), ("headers", Shape::Map(&any_named(Text, 0)))])
            }),
        ),
    ])
});

/// A package's name and its version.
const VERSION: Shape = Shape::List(&list(Text, 2, 2));
const PACKAGES_OF: &[(&str, Shape)] = &[
    ("apt", Shape::List(&list(OneOf(&[Text, VERSION]), 0, MANY))),
    ("snap", Shape::List(&list(OneOf(&[Text, VERSION]), 0, MANY))),
];

const APT: Shape = Shape::Map(&Map {
    min: 1,
    ..map(&[
        ("add_apt_repo_match", Text),
        ("conf", Text),
        ("debconf_selections", Shape::Map(&named(Text, 1))),
        ("disable_suites", Shape::List(&set(Text, 1))),
        ("ftp_proxy", Text),
        ("generate_mirrorlists", Bool),
        ("http_proxy", Text),
        ("https_proxy", Text),
        ("preserve_sources_list", Bool),
        ("primary", MIRRORS),
        ("proxy", Text),
        ("security", MIRRORS),
        ("sources", Shape::Map(&named(APT_SOURCE, 0))),
        ("sources_list", Text),
    ])
});

const MIRRORS: Shape = Shape::List(&list(
    Shape::Map(&Map {
        required: &["arches"],
        ..map(&[
            ("arches", SOME_TEXTS),
            ("key", Text),
            ("keyid", Text),
            ("keyserver", Text),
            ("search", SOME_TEXTS),
            ("search_dns", Bool),
            ("uri", Text),
        ])
    }),
    1,
    MANY,
));

const APT_SOURCE: Shape = Shape::Map(&Map {
    min: 1,
    ..map(&[
        ("append", Bool),
        ("filename", Text),
        ("key", Text),
        ("keyid", Text),
        ("keyserver", Text),
        ("source", Text),
    ])
});

const CA_CERTS: Shape = Shape::Map(&Map {
    min: 1,
    ..map(&[("remove-defaults", Bool), ("remove_defaults", Bool), ("trusted", SOME_TEXTS)])
});

const CHPASSWD: Shape = Shape::Map(&map(&[
    ("expire", Bool),
    ("list", OneOf(&[Text, Shape::List(&list(Form(is_password_of_user, "ann:secret"), 1, MANY))])),
    ("users", Shape::List(&list(OneOf(&[PASSWORD, RANDOM_PASSWORD]), 0, MANY))),
]));

const PASSWORD: Shape = Shape::Map(&Map {
    required: &["name", "password"],
    ..map(&[("name", Text), ("password", Text), ("type", Words(&["hash", "text"]))])
});

const RANDOM_PASSWORD: Shape =
    Shape::Map(&Map { required: &["name", "type"], ..map(&[("name", Text), ("type", Words(&["RANDOM"]))]) });

const DISK: &[(&str, Shape)] = &[
    (
        "layout",
        OneOf(&[
            Bool,
            Words(&["remove"]),
            Shape::List(&list(OneOf(&[Whole, Shape::List(&list(OneOf(&[Whole, Text]), 2, 2))]), 0, MANY)),
        ]),
    ),
    ("overwrite", Bool),
    ("table_type", Words(&["gpt", "mbr"])),
];

const FILE_SYSTEM: &[(&str, Shape)] = &[
    ("cmd", OneOf(&[TEXTS, Text])),
    ("device", Text),
    ("extra_opts", OneOf(&[TEXTS, Text])),
    ("filesystem", Text),
    ("label", Text),
    ("overwrite", Bool),
    ("partition", Words(&["auto", "any", "none"])),
    ("replace_fs", Text),
];

const GROWPART: &[(&str, Shape)] = &[
    ("devices", TEXTS),
    ("ignore_growroot_disabled", Bool),
    ("mode", OneOf(&[Words(&["auto", "growpart", "gpart", "off"]), False])),
];

const NTP: &[(&str, Shape)] = &[
    ("allow", DIFFERENT_TEXTS),
    (
        "config",
        Shape::Map(&Map {
            min: 1,
            ..map(&[
                ("check_exe", Text),
                ("confpath", Text),
                ("packages", DIFFERENT_TEXTS),
                ("service_name", Text),
                ("template", Text),
            ])
        }),
    ),
    ("enabled", Bool),
    ("ntp_client", Text),
    ("peers", DIFFERENT_TEXTS),
    ("pools", DIFFERENT_TEXTS),
    ("servers", DIFFERENT_TEXTS),
];

const POWER_STATE: Shape = Shape::Map(&Map {
    required: &["mode"],
    ..map(&[
        ("condition", OneOf(&[Text, Bool, Shape::List(&list(Any, 0, MANY))])),
        ("delay", OneOf(&[Natural, Words(&["now"]), Form(is_delay, "+5")])),
        ("message", Text),
        ("mode", Words(&["poweroff", "reboot", "halt"])),
        ("timeout", Whole),
    ])
});

const SNAP: Shape = Shape::Map(&Map {
    min: 1,
    ..map(&[
        ("assertions", OneOf(&[Shape::List(&set(Text, 1)), Shape::Map(&any_named(Text, 1))])),
        ("commands", OneOf(&[Shape::List(&list(COMMAND, 1, MANY)), Shape::Map(&any_named(COMMAND, 1))])),
    ])
});

const SSH: Shape =
    Shape::Map(&Map { required: &["emit_keys_to_console"], ..map(&[("emit_keys_to_console", Bool)]) });

const SSH_KEYS: Shape = Shape::Map(&Map {
    others: Some(Others { names: is_host_key, form: "rsa_private", is_open: false, value: Text }),
    ..map(&[])
});

const SWAP: &[(&str, Shape)] = &[
    ("filename", Text),
    ("maxsize", OneOf(&[Whole, Form(is_size, "2G")])),
    ("size", OneOf(&[Words(&["auto"]), Whole, Form(is_size, "2G")])),
];

/// A line without its optional line break: the schema's patterns accept both.
fn without_end(text: &str) -> &str {
    text.strip_suffix('\n').unwrap_or(text)
}

/// One non-empty line.
fn is_name(text: &str) -> bool {
    let line = without_end(text);
    !line.is_empty() && !line.contains('\n')
}

fn is_host_key(text: &str) -> bool {
    let parts = without_end(text).split_once('_');
    parts.is_some_and(|(kind, half)| {
        ["dsa", "ecdsa", "ed25519", "rsa"].contains(&kind)
            && ["public", "private", "certificate"].contains(&half)
    })
}

/// A name, a colon, a password.
fn is_password_of_user(text: &str) -> bool {
    let line = without_end(text);
    let colon = line.char_indices().skip(1).find(|(_, character)| *character == ':');
    !line.contains('\n') && colon.is_some_and(|(at, _)| at + 1 < line.len())
}

/// A delay in minutes.
fn is_delay(text: &str) -> bool {
    let text = without_end(text);
    let digits = text.strip_prefix('+').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// `512M`, `1.5G`, `.5G`.
fn is_size(text: &str) -> bool {
    let Some(number) = without_end(text).strip_suffix(['B', 'K', 'M', 'G', 'T']) else { return false };
    let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    match number.split_once('.') {
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction) && !fraction.is_empty(),
        None => is_digits(number) && !number.is_empty(),
    }
}
