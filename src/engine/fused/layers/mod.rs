//! Some images through the layers of the network, forward and back: as many as a vector has lanes, or one.
//!
//! | room | concern |
//! | --- | --- |
//! | `single` | one image, with its rows or outputs in the lanes |
//! | `chunk` | images in the lanes, through all layers |
//! | `backward` | one tile of a chunk back through the convolutions |
//! | `tile` | one tile forward through the convolutions |
//! | `input` | a batch, and its pixels into lanes |
//! | `views` | images as they are seen through views |
//! | `geometry` | heights and widths |
//! | `convolution` | a convolution by Winograd's algorithm, with activation and pooling |

pub mod backward;
pub mod chunk;
pub mod convolution;
pub mod geometry;
pub mod input;
pub mod single;
pub mod tile;
pub mod views;
