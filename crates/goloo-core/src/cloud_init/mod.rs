//! What reaches cloud-init: the user's document and goloo's part beside it.
