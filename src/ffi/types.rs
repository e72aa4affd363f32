//! Constants and structs of the C API.

use super::check::VersionedStruct;
use crate::dataset::Dataset;
use crate::model::Model;
use std::ffi::{c_char, c_void};
use std::mem::offset_of;

/// What a call returns: LENET_OK or one of the LENET_ERROR_ constants. Values are never renumbered.
/// Since 1.0.
pub type lenet_status = i32;

/// Success. Outputs have been written; lenet_last_error() is left alone.
pub const LENET_OK: lenet_status = 0;
/// A pointer that must not be NULL is.
pub const LENET_ERROR_NULL_POINTER: lenet_status = 1;
/// An argument, a field of a struct or a struct_size is out of range.
pub const LENET_ERROR_INVALID_ARGUMENT: lenet_status = 2;
/// A label is not below the model's number of classes.
pub const LENET_ERROR_LABEL_OUT_OF_RANGE: lenet_status = 3;
/// A pixel, parameter or gradient that was passed, or a value in a model file, is NaN or infinite.
pub const LENET_ERROR_NON_FINITE: lenet_status = 4;
/// The computation left the range of float; the model keeps its last good step.
pub const LENET_ERROR_DIVERGED: lenet_status = 5;
/// An output buffer has room for fewer elements than would be written.
pub const LENET_ERROR_BUFFER_TOO_SMALL: lenet_status = 6;
/// There is no such file, or no such layer, or no ink in a picture.
pub const LENET_ERROR_NOT_FOUND: lenet_status = 7;
/// The operating system refused to read or write.
pub const LENET_ERROR_IO: lenet_status = 8;
/// The file is not of the kind that was asked for.
pub const LENET_ERROR_FORMAT: lenet_status = 9;
/// The file is of that kind, but cut off or damaged.
pub const LENET_ERROR_CORRUPT: lenet_status = 10;
/// The file is sound, but not a LeNet, of a later format, or does not go with another file.
pub const LENET_ERROR_INCOMPATIBLE: lenet_status = 11;
/// The device does not exist here, or this library cannot use it.
pub const LENET_ERROR_DEVICE_UNAVAILABLE: lenet_status = 12;
/// Not supported by this build, or LENET_ENGINE names no engine that this CPU has.
pub const LENET_ERROR_UNSUPPORTED: lenet_status = 13;
/// Memory could not be had.
pub const LENET_ERROR_OUT_OF_MEMORY: lenet_status = 14;
/// The progress function asked to stop; completed steps are kept.
pub const LENET_ERROR_CANCELLED: lenet_status = 15;
/// The model is being changed further up on this thread's own stack.
pub const LENET_ERROR_BUSY: lenet_status = 16;
/// The process was forked and what the call needs, threads or a GPU, stayed with the parent. The
/// default engine keeps nothing of the kind and computes in a child too.
pub const LENET_ERROR_FORKED: lenet_status = 17;
/// A defect in the library. The process lives on; the model refuses further training, but still
/// predicts and saves its last good step.
pub const LENET_ERROR_INTERNAL: lenet_status = 18;

/// The CPU.
pub const LENET_DEVICE_CPU: i32 = 0;
/// An NVIDIA GPU, which needs liblenet_cuda.so.1 beside this library, or else where the loader looks.
pub const LENET_DEVICE_CUDA: i32 = 1;
/// An NVIDIA GPU where one can be used, else the CPU.
pub const LENET_DEVICE_AUTO: i32 = 2;

/// 1 / (1 + exp(-x))
pub const LENET_ACTIVATION_SIGMOID: i32 = 0;
/// tanh(x)
pub const LENET_ACTIVATION_TANH: i32 = 1;
/// max(x, 0), with slope 0 at 0
pub const LENET_ACTIVATION_RELU: i32 = 2;

/// Mean of each 2x2 window.
pub const LENET_POOLING_AVG: i32 = 0;
/// Maximum of each 2x2 window; the gradient goes to the first maximum in row-major order.
pub const LENET_POOLING_MAX: i32 = 1;

/// torch.optim.SGD: momentum and weight decay, no dampening, no Nesterov.
pub const LENET_OPTIMIZER_SGD: i32 = 0;
/// torch.optim.AdamW with betas 0.9 and 0.999 and epsilon 1e-8; `momentum` is not used.
pub const LENET_OPTIMIZER_ADAMW: i32 = 1;

/// The seed article's recipe: sigmoid, average pooling, SGD with learning rate 0.9. It needs thousands
/// of steps before the loss leaves ln(classes), as the same network does in PyTorch: for the 60,000
/// images of MNIST or Fashion-MNIST that is some epochs; from a few thousand images of your own it
/// usually learns nothing. LENET_PRESET_MODERN does. On the first images of Fashion-MNIST, accuracy
/// on its test images after 30 epochs of batches of 32, with 100, 1,000 and 5,000 of them: 0.10, 0.10
/// and 0.75 with this preset, 0.67, 0.82 and 0.85 with that one.
pub const LENET_PRESET_CLASSIC: i32 = 0;
/// ReLU, max pooling, AdamW with learning rate 0.001 and weight decay 0.01: the one to begin with on
/// data of your own. With few images take small batches, so that an epoch has more steps.
pub const LENET_PRESET_MODERN: i32 = 1;
/// The one for the best accuracy: as LENET_PRESET_MODERN, with weight decay 0.05, and 0.004 as the peak
/// of LENET_SCHEDULE_ONE_CYCLE in its lenet_fit_options, which are made for it: give both structs this
/// preset. Set input_mean and input_std to the mean and the standard deviation of the training pixels
/// / 255: for Fashion-MNIST 0.2860 and 0.3530. Its shift suits digits always, clothes from some 20
/// epochs on. Since 1.1.
pub const LENET_PRESET_ACCURATE: i32 = 2;

/// Grey from 0 (black) to 255 (white).
pub const LENET_FORMAT_GRAY8: i32 = 0;
/// Red, green, blue; a pixel's grey is (19595 R + 38470 G + 7471 B + 32768) / 65536, rounded down: luma
/// as in ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, and as PIL's mode "L".
pub const LENET_FORMAT_RGB8: i32 = 1;
/// Blue, green, red: OpenCV's order.
pub const LENET_FORMAT_BGR8: i32 = 2;
/// Red, green, blue, opacity, not multiplied with it. A pixel of grey g and opacity a before a background
/// b is (g a + b (255 - a)) / 255, rounded. See LENET_PREPARE_RESIZE and _GLYPH for b.
pub const LENET_FORMAT_RGBA8: i32 = 3;
/// Blue, green, red, opacity.
pub const LENET_FORMAT_BGRA8: i32 = 4;

/// Any picture: fitted into height x width with its aspect kept and in the middle (half a pixel further
/// to the upper left where that is between pixels), each side rounded and at least 1. Antialiased with a
/// triangular filter, which is bilinear interpolation where the picture grows: PIL's BILINEAR. What is
/// left free is filled with the median of the picture's outermost pixels. Transparent pixels are seen
/// before black. Light and dark stay as they are.
pub const LENET_PREPARE_RESIZE: i32 = 0;
/// One digit, letter or sign drawn, written or printed on paper, as MNIST's digits were prepared
/// (yann.lecun.com/exdb/mnist): found wherever it is and however large, whether dark on light or light on
/// dark, on grey and unevenly lit paper, beside a dark border, with specks; its box fitted into 20/28 of
/// height and width with its aspect kept, its centre of mass in the middle to whole pixels, white on
/// black from 0 to 255. MNIST's own digits stay nearly as they are. Train on data that went through the
/// same preparation.
///
/// What is needed of the picture: more than half of it is paper, whose brightness changes smoothly (a
/// quadratic surface is fitted to it by least trimmed squares), and the glyph is at least 4 pixels and
/// 1/64 of the picture large and differs from paper by more than 12 grey levels and 5 times the paper's
/// noise. Ink that lies along an edge of the picture is taken for a border, what touches an edge for a
/// neighbour if something heavier does not, and parts below 1/16 of the heaviest for specks; all else is
/// the glyph, so a ruled box around it belongs to it. Leave some paper around: of a stroke that fills
/// its picture nobody can tell whether it is ink or paper. A picture without ink is
/// LENET_ERROR_NOT_FOUND. Transparent pixels are seen before white where what is opaque is dark on
/// average, else before black.
pub const LENET_PREPARE_GLYPH: i32 = 1;

/// The same learning rate throughout.
pub const LENET_SCHEDULE_CONSTANT: u32 = 0;
/// One cycle over all T steps of the fit: with u = (t + 0.5) / T for step t, counted from 0, the rate is
/// peak * u / 0.25 up to u = 0.25, then peak * (1 + cos(pi * (u - 0.25) / 0.75)) / 2. The peak is the
/// model's learning rate, which stays what it is. With max_seconds, u is the part of the time that is
/// over in the middle of the step, if that is more. Since 1.1.
pub const LENET_SCHEDULE_ONE_CYCLE: u32 = 1;

/// lenet_fit() leaves the model as its last step made it. Since 1.1.
pub const LENET_KEEP_LAST: u32 = 0;
/// It leaves the parameters, the optimizer's averages and the number of steps as they were after the
/// epoch of the lowest validation loss. Since 1.1.
pub const LENET_KEEP_BEST: u32 = 1;

/// lenet_progress.event: a step has been made.
pub const LENET_PROGRESS_STEP: u32 = 0;
/// lenet_progress.event: an epoch has ended and, if there is validation data, been validated.
pub const LENET_PROGRESS_EPOCH_END: u32 = 1;

/// lenet_progress.event: lenet_dataset_open_folder_with() has read a picture. Since 1.1.
pub const LENET_PROGRESS_PICTURE: u32 = 2;

/// A network with its parameters, optimizer state and progress; opaque.
///
/// Threads: any call from any thread at any time, except lenet_free() on a model in use. Calls that
/// take a `const lenet_model *` run side by side with each other and with training, and see the
/// parameters of one whole step. Calls that change a model take turns. Since 1.0.
pub struct lenet_model(pub(super) Model);

/// Labelled images of one size, in memory; opaque. It never changes, so any threads may share it.
/// Since 1.0.
pub struct lenet_dataset(pub(super) Dataset);

/// How a model is made. Fill it with lenet_options_init(), then change what you need. Since 1.0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lenet_options {
    /// sizeof(lenet_options), set by lenet_options_init().
    pub struct_size: u32,
    /// LENET_DEVICE_CPU, _CUDA or _AUTO. Presets: _CPU.
    pub device: i32,
    /// Which device of that kind, from 0.
    pub device_index: i32,
    /// Threads of the CPU that may compute, at most 1024. 0: as many as this process may use (affinity,
    /// cgroup). 1: no thread is ever made. Threads live for the length of a call, small batches
    /// stay on the caller's; the number changes no bit of any result.
    pub num_threads: u32,
    /// Rows of an image: 16 to 256, a multiple of 4. Presets: 28.
    pub height: u32,
    /// Columns of an image: 16 to 256, a multiple of 4. Presets: 28.
    pub width: u32,
    /// Number of classes: 2 to 256. Presets: 10.
    pub classes: u32,
    /// LENET_ACTIVATION_SIGMOID, _TANH or _RELU.
    pub activation: i32,
    /// LENET_POOLING_AVG or _MAX.
    pub pooling: i32,
    /// LENET_OPTIMIZER_SGD or _ADAMW.
    pub optimizer: i32,
    /// Of the initial weights and of the shuffling: the same seed, data and library give the same
    /// model, bit for bit. Presets: 0.
    pub seed: u64,
    /// Step size, finite, at least 0. Classic: 0.9, modern: 0.001, accurate: 0.004.
    pub learning_rate: f64,
    /// Of SGD, at least 0 and below 1. Presets: 0.
    pub momentum: f64,
    /// At least 0: for SGD an L2 penalty, for AdamW decoupled decay. Classic: 0, modern: 0.01,
    /// accurate: 0.05.
    pub weight_decay: f64,
    /// The network sees (pixel - input_mean) / input_std, padded with zeros. Presets: 0.
    pub input_mean: f64,
    /// Above 0. Presets: 1.
    pub input_std: f64,
    /// What lenet_prepare_image() does to pictures: LENET_PREPARE_RESIZE or _GLYPH; kept in the file.
    /// Presets: _RESIZE. Since 1.1.
    pub preparation: i32,
    /// 1: predictions are the mean over an image and its mirror image, left for right; they take twice
    /// the time. Probabilities are the mean of both softmaxes, classes the most probable by that
    /// mean, the loss of lenet_evaluate() and of validation -log of the label's mean probability.
    /// Logits, gradients and the loss of training stay those of the image alone. It helps where
    /// images and their mirror images mean the same, as of clothes, and the training has seen both.
    /// Kept in the file, which 1.0 then does not read. Presets, and 0: no mirror image. Since 1.1.
    pub mirror: u32,
    /// Zeros on each side of an image before conv1: 2, or 0 for LeNet-5's own network on 32x32 images
    /// and for that of most tutorials on 28x28, whose fc1 has 256 inputs. Presets, and programs whose
    /// struct ends before this field: 2. Since 1.1.
    pub padding: u32,
    /// 0. Since 1.1.
    pub reserved: u32,
}

/// How lenet_fit() trains. Fill it with lenet_fit_options_init(). Since 1.0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lenet_fit_options {
    /// sizeof(lenet_fit_options), set by lenet_fit_options_init().
    pub struct_size: u32,
    /// Passes over the training data, at least 1; with max_seconds 0 means any number. Presets: 10,
    /// accurate: 20.
    pub epochs: u32,
    /// Images a step, at least 1; the last batch of an epoch may be smaller. Presets: 256, accurate:
    /// 128.
    pub batch_size: u32,
    /// LENET_SCHEDULE_CONSTANT or _ONE_CYCLE. Presets: _CONSTANT, accurate: _ONE_CYCLE.
    pub schedule: u32,
    /// Each time that an image is trained on, it is moved by a whole number of pixels from -shift to
    /// shift in each direction, each as likely; zeros come in. Below height and width. Presets: 0,
    /// accurate: 1. This field and those that follow are 0, off, for programs whose struct ends before
    /// them. Since 1.1.
    pub shift: u32,
    /// LENET_KEEP_LAST or _BEST. _BEST needs validation data. Presets: _LAST. Since 1.1.
    pub keep: u32,
    /// After so many epochs in a row without a lower validation loss the fit ends, with LENET_OK; 0:
    /// never. Needs validation data. Presets: 0. Since 1.1.
    pub patience: u32,
    /// 0. Since 1.1.
    pub reserved: u32,
    /// Probability, from 0 to 1, that an image is mirrored, left for right, each time that it is trained
    /// on. Presets: 0. Since 1.1.
    pub flip: f64,
    /// An image is turned by an angle from -rotation to rotation degrees, each time drawn anew; 0 to 180.
    /// Presets: 0. Since 1.1.
    pub rotation: f64,
    /// It is made larger by a factor from 1 - scale to 1 + scale, each time drawn anew; at least 0 and
    /// below 1. Presets: 0. Since 1.1.
    pub scale: f64,
    /// Seconds that lenet_fit() may take, validation and progress function included; 0: any. It ends
    /// with LENET_OK within a hundredth of the time or 50 ms of it, if a step does not take longer, but
    /// makes one step at least; the epoch in which the time is up is cut short and counts as ended. How
    /// many steps are made, and with LENET_SCHEDULE_ONE_CYCLE at what rates, depends on the machine and
    /// on what else it does: such a fit cannot be repeated bit for bit. Presets: 0. Since 1.1.
    pub max_seconds: f64,
    /// When the validation accuracy reaches it at the end of an epoch, the fit ends with LENET_OK and
    /// the model of that epoch, whatever keep says; 0 to 1, 0: never. Needs validation data. Presets: 0.
    /// Since 1.1.
    pub target_accuracy: f64,
    /// How much more the images of rare classes count in the training loss, from 0, not at all, to 1,
    /// where every class counts the same: an image of a class counts 1 - b + b * N / (C * n), where N is
    /// the number of training images, C that of classes that have some, and n that of this class. The
    /// loss of a batch is the mean over its images so weighted; the validation loss is not weighted.
    /// Presets: 0. Since 1.1.
    pub class_balance: f64,
}

/// What lenet_evaluate() measures. Set struct_size before the call. Since 1.0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lenet_metrics {
    /// sizeof(lenet_metrics), set by the caller.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Images evaluated.
    pub count: u64,
    /// Images whose most probable class is their label.
    pub correct: u64,
    /// Mean softmax cross-entropy, in nats; of a mirrored model see lenet_options.
    pub loss: f64,
    /// correct / count
    pub accuracy: f64,
}

/// Where lenet_fit() stands, for a progress function; or lenet_dataset_open_folder_with(), which says
/// how it uses the fields. Since 1.0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lenet_progress {
    /// sizeof(lenet_progress) of the library.
    pub struct_size: u32,
    /// The present epoch, from 1 to `epochs`, of this call or of the fit that it goes on with.
    pub epoch: u32,
    /// Epochs that this call, or the fit that it goes on with, has at most; 0: any number.
    pub epochs: u32,
    /// LENET_PROGRESS_STEP after each step, LENET_PROGRESS_EPOCH_END after the last one of an epoch;
    /// LENET_PROGRESS_PICTURE.
    pub event: u32,
    /// Steps done in this epoch, from 1 to `steps`; at its end fewer than those if the time was up.
    pub step: u64,
    /// Steps of this epoch.
    pub steps: u64,
    /// Mean training loss over the images of this epoch so far, in nats, with class_balance the mean of
    /// the batches' weighted ones. NaN at the end of an epoch whose steps an earlier call made.
    pub loss: f64,
    /// Training accuracy over the same images, 0 to 1, or NaN.
    pub accuracy: f64,
    /// Mean loss on the validation data at LENET_PROGRESS_EPOCH_END, else NaN.
    pub validation_loss: f64,
    /// Accuracy on the validation data at LENET_PROGRESS_EPOCH_END, else NaN.
    pub validation_accuracy: f64,
    /// Training throughput over this epoch so far.
    pub images_per_second: f64,
}

/// One row of the layer table: what a layer makes of one image. Set struct_size before the call.
/// Since 1.0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lenet_layer {
    /// sizeof(lenet_layer), set by the caller.
    pub struct_size: u32,
    /// Channels of the output, or features of a linear layer.
    pub channels: u32,
    /// Rows of the output; 1 for a linear layer.
    pub height: u32,
    /// Columns of the output; 1 for a linear layer.
    pub width: u32,
    /// Weights and biases of the layer.
    pub parameters: u64,
    /// "conv1", "activation1", "pooling1", "conv2", ... "fc3": static, never freed.
    pub name: *const c_char,
    /// PyTorch's name of it: "Conv2d", "Sigmoid", "AvgPool2d", ...: static, never freed.
    pub kind: *const c_char,
}

/// How far a model's answers can be trusted: what lenet_calibrate() found. Set struct_size before the
/// call. Since 1.1.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lenet_calibration {
    /// sizeof(lenet_calibration), set by the caller.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// What logits are divided by before softmax.
    pub temperature: f64,
    /// The largest probability from which on an answer counts; 2, which none reaches, if not even the
    /// surest answers were right often enough.
    pub threshold: f64,
    /// The share of the validation images that reach the threshold.
    pub coverage: f64,
    /// The share of those that are classified wrongly, at most max_error; 0 if there are none.
    pub error: f64,
    /// Mean of -log(probability of the label) on the validation data with temperature 1, in nats.
    pub loss_before: f64,
    /// The same with this temperature; never more.
    pub loss_after: f64,
}

/// A picture in the caller's memory. Since 1.1.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lenet_image {
    /// sizeof(lenet_image), set by the caller.
    pub struct_size: u32,
    /// LENET_FORMAT_GRAY8, _RGB8, _BGR8, _RGBA8 or _BGRA8.
    pub format: i32,
    /// Rows: 1 to 65536.
    pub height: u32,
    /// Columns: 1 to 65536.
    pub width: u32,
    /// Bytes from the beginning of one row to that of the next, at least a row's; 0: rows touch.
    pub stride: usize,
    /// The upper left pixel. Read are (height - 1) * stride bytes and one more row.
    pub pixels: *const u8,
}

/// A progress function: called by lenet_fit() on its own thread after each step and each epoch.
/// A return value other than 0 cancels. `progress` is valid during the call only.
///
/// From inside, any call with a `const lenet_model *` is allowed on the same model and sees the step
/// just made, and lenet_set_learning_rate(), which counts from the next step on; any other call that
/// changes it returns LENET_ERROR_BUSY; freeing it is forbidden. It must return: no longjmp and no C++
/// exception out of it. Since 1.0.
pub type lenet_progress_fn = Option<
    unsafe extern "C-unwind" fn(progress: *const lenet_progress, user_data: *mut c_void) -> i32,
>;

/// Lists a struct's fields for its `OFFSETS`; padding is what -Wpadded looks for in the C test.
macro_rules! versioned {
    ($type:ident: $($field:ident)*) => {
        // SAFETY: `repr(C)`, `struct_size` first, numbers and pointers only: any bytes are a value.
        unsafe impl VersionedStruct for $type {
            const NAME: &'static str = stringify!($type);
            const OFFSETS: &'static [usize] = &[$(offset_of!($type, $field)),*];
        }
    };
}

versioned!(lenet_options: struct_size device device_index num_threads height width classes
    activation pooling optimizer seed learning_rate momentum weight_decay input_mean input_std
    preparation mirror padding reserved);
versioned!(lenet_fit_options: struct_size epochs batch_size schedule shift keep patience reserved flip
    rotation scale max_seconds target_accuracy class_balance);
versioned!(lenet_metrics: struct_size reserved count correct loss accuracy);
versioned!(lenet_progress: struct_size epoch epochs event step steps loss accuracy validation_loss
    validation_accuracy images_per_second);
versioned!(lenet_calibration: struct_size reserved temperature threshold coverage error loss_before
    loss_after);
versioned!(lenet_image: struct_size format height width stride pixels);
versioned!(lenet_layer: struct_size channels height width parameters name kind);
