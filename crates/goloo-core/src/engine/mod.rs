//! The one place that knows the order: intent saved → provider called → result saved.
