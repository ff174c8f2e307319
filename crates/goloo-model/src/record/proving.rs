//! Proofs are made and checked with the key of this state folder.

use super::Record;
use super::digest::{Digest, FORM, Proof};
use super::home::LocalContext;
use super::proof::{AuthenticatedFields, intent};
use crate::store::Snapshot;

impl LocalContext {
    /// Whether the VM was created with this state folder, as its record claims.
    pub fn created(&self, record: &Record) -> bool {
        self.trust.is_proven(record)
    }

    /// Whether the VM was created with this state folder and from these files.
    pub fn created_from(&self, record: &Record, snapshot: &Snapshot) -> bool {
        record.is_from(snapshot) && self.created(record)
    }

    /// Whether the record's operation, if any, was started with this state folder, as the record claims.
    pub fn started_operation(&self, record: &Record) -> bool {
        let Some(intent) = intent(record) else { return true };
        let proven = || {
            let operation =
                record.operation.as_ref().filter(|operation| self.operations.contains(&operation.id))?;
            let proof = operation.proof.as_ref()?;
            Some(self.trust.key.as_ref()?.verifies(&intent, proof))
        };
        proven().unwrap_or(false)
    }
}

impl Record {
    /// Adds proof that the VM was created with this state folder, from these files.
    pub fn prove(&mut self, here: &LocalContext, snapshot: Digest) {
        let fields = AuthenticatedFields::of(self, &snapshot, FORM).map(|fields| fields.bytes());
        self.proof = here.trust.key.as_ref().zip(fields).map(|(key, fields)| {
            let mac = key.sign(&fields);
            Proof { snapshot, mac, form: FORM }
        });
    }

    /// Renews the proof of a record that had one, after a change.
    pub fn prove_again(&mut self, here: &LocalContext) {
        if let Some(Proof { snapshot, .. }) = self.proof.take() {
            self.prove(here, snapshot);
        }
    }

    /// Adds proof that the operation was started with this state folder.
    pub fn prove_operation(&mut self, here: &LocalContext) {
        let proof = here.trust.key.as_ref().zip(intent(self)).map(|(key, intent)| key.sign(&intent));
        if let Some(operation) = &mut self.operation {
            operation.proof = proof;
        }
    }
}
