//! Where training stands: what a fit needs to know to go on after it was stopped.

/// Where `fit` stands in its data, so that an interrupted epoch can be finished later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Epochs finished since the model was made; numbers the shuffle.
    pub index: u64,
    /// Images of this epoch that have been trained on, and of how many; 0 and 0 between epochs.
    pub consumed: u64,
    pub count: u64,
    /// The hash of the dataset that this epoch was begun with. None between epochs, and in the
    /// middle of one in a file of version 1.0.
    pub dataset: Option<u128>,
}
