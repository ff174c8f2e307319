//! The kinds of operations.

use super::word_enum::word_enum;

word_enum! {
    /// What an operation does.
    OperationKind {
        /// Creates the VM.
        Create = "create",
        /// Deletes it.
        Delete = "delete",
        /// Starts it.
        Start = "start",
        /// Stops it.
        Stop = "stop",
        /// Stops and starts it.
        Restart = "restart",
        /// Saves its memory to disk and stops it.
        Suspend = "suspend",
        /// Creates it as a copy of another VM.
        Clone = "clone",
        /// Creates it from a file that another computer wrote.
        Import = "import",
        /// Changes it to what its stack and its overrides say.
        Apply = "apply",
        /// Moves DNS names from another VM to it.
        DnsSwap = "dns-swap",
        /// Returns its DNS names to their previous owner.
        DnsRollback = "dns-rollback",
        /// Gives it another name.
        Rename = "rename",
        /// Makes a baked image of it, and deletes it.
        Bake = "bake",
        /// Moves the name of a VM to the one that replaces it.
        Replace = "replace",
    }
}

impl OperationKind {
    /// Whether the machine can't be relied on until the operation is finished.
    pub fn makes_or_ends(self) -> bool {
        matches!(self, Self::Create | Self::Clone | Self::Import | Self::Delete | Self::Bake)
    }

    /// Whether the VM may be stored under two names meanwhile.
    pub fn renames(self) -> bool {
        matches!(self, Self::Rename | Self::Replace)
    }

    /// Whether DNS names move.
    pub fn moves_names(self) -> bool {
        matches!(self, Self::DnsSwap | Self::DnsRollback)
    }
}
