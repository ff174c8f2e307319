//! Images from Debian's packages alone, for machines with no way to a published image.
