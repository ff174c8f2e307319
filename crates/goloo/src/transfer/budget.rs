//! Limits the total number of values in the records of one document or backup: a parsed value takes up to eighty bytes
//! of memory, but as little as two bytes of text.

/// About 400 MB, and far more than 10,000 records of ordinary size need.
const VALUES_MAX: usize = 5_000_000;

/// The number of values still allowed.
#[derive(Debug)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(VALUES_MAX)
    }
}

impl Budget {
    /// Counts the values of a record's JSON text before it is parsed. Commas and brackets in strings count too.
    pub fn spend(&mut self, json: &[u8]) -> Result<(), String> {
        let values = json.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
        let left = self.0.checked_sub(values);
        self.0 = left.ok_or_else(|| format!("its records have more than {VALUES_MAX} values"))?;
        Ok(())
    }
}
