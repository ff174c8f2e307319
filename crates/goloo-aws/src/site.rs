//! Places for an instance: a subnet, and how the template names it.

use crate::template::Placement;

/// Where an instance is placed: the template's form and the actual subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The template's form.
    pub place: Placement,
    /// The subnet.
    pub subnet: Subnet,
}

/// A subnet for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// Its VPC's id.
    pub vpc: String,
    /// Whether it is reachable from the internet.
    pub public: bool,
    /// Its availability zone, if AWS returns it.
    pub zone: Option<String>,
}
