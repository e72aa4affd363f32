/* What a host gives the kernels, and what they give back. Plain C, no padding: a host in any language lays out the same.
 *
 * Kernels of a module (one module for each activation, pooling and shape; see lenet.cu):
 *   lenet_train(TrainArguments)    any number of training steps, or one gradient
 *   lenet_logits(LogitsArguments)  logits of any number of images
 * and of the module apply.cu:
 *   lenet_apply(ApplyArguments)    one step of an optimizer with a gradient that is given
 *
 * lenet_train and lenet_logits have blocks that wait for each other. They are launched cooperatively, with LENET_THREADS threads a
 * block, LENET_GROUP * groups blocks and the dynamic shared memory that layout.h says. `groups` is at least 1 and at most what the
 * device holds at once: occupancy * multiprocessors / LENET_GROUP, and LENET_MOST_GROUPS. A device that holds no group, or a block
 * that may not have so much shared memory: the network does not fit, and candle's operations compute it.
 *
 * The first LENET_BARRIER_WORDS words of a workspace, see layout.h, are for barriers. They must be zero when it is first used; a
 * launch leaves them usable for the next one, whatever its kernel and number of groups. After a launch that failed they are to be
 * zeroed.
 *
 * Every pointer is to memory that the device can read (and write, where it is not const): its own, or mapped pinned memory of the
 * host. Weights, gradients, rates and workspace are aligned to 16 bytes, pixels to 4.
 */
#pragma once

#include <stdint.h>

enum {
    LENET_THREADS = 256,   /* of a block */
    LENET_GROUP = 16,      /* blocks that handle 16 images together */
    LENET_MOST_GROUPS = 64 /* of a launch */
};

/* 28x28, padding 2 and 28x28, padding 0, both with 10 classes, have kernels of their own; so has 32x32 with padding 0, whose maps
 * are those of 28x28 with padding 2. Everything else is for the module of any shape, which looks here; the others do not. */
typedef struct Network {
    uint32_t height, width; /* multiples of 4, from 16 */
    uint32_t padding;       /* of conv1: 2 or 0 */
    uint32_t classes;       /* 2 to 256 */
} Network;

/* Image i of a launch. The network sees (pixel - mean) / std, and zeros around it. */
typedef struct Images {
    const void *pixels;      /* (any, height, width), row-major */
    const uint32_t *indices; /* (count): image i is pixels[indices[i]]; NULL: pixels[i] */
    uint32_t floats;         /* 0: bytes, which stand for byte / 255; 1: f32 */
    uint32_t count;
    float mean, std;
} Images;

enum {
    LENET_GRADIENT_ONLY = 0, /* no step: `gradient` is all that comes out */
    LENET_SGD = 1,
    LENET_SGD_MOMENTUM = 2, /* one average: the momentum buffer */
    LENET_ADAMW = 3         /* two averages: of the gradient, of its square */
};

/* Of a step, as f32, derived in f64 by the host. */
typedef struct Rates {
    float rate;  /* SGD: learning rate; AdamW: learning rate / (1 - beta1^number) */
    float keep;  /* AdamW: 1 - learning rate * weight decay */
    float scale; /* AdamW: 1 / sqrt(1 - beta2^number) */
    float reserved;
} Rates;

typedef struct Rule {
    uint32_t rule;
    float momentum;     /* of LENET_SGD_MOMENTUM */
    float weight_decay; /* of both SGD; AdamW has it in `keep` */
    uint32_t reserved;
} Rule;

/* Of one step, before its update. */
typedef struct StepResult {
    double loss;      /* mean softmax cross-entropy over the batch */
    uint32_t correct; /* images whose first largest logit is that of their label */
    uint32_t images;  /* of the batch */
} StepResult;

enum {
    LENET_FINISHED = 0,
    LENET_LOSS_NOT_FINITE = 1,
    LENET_RESULT_NOT_FINITE = 2 /* a weight or average after the step, or a gradient */
};

typedef struct Report {
    uint32_t steps; /* completed; the step that failed is not counted, but has its entry in `results` */
    uint32_t reason;
} Report;

/* Step s, counted from 0, is of images [s * batch, min((s + 1) * batch, images.count)).
 *
 * A set of weights is (1 + averages, parameters), row-major: all parameters, in the order conv1.weight, conv1.bias, conv2.weight,
 * ... fc3.bias, then each average. Step 0 reads `first` and writes `ping`, step 1 reads `ping` and writes `pong`, step 2 reads
 * `pong` and writes `ping`, and so on; `first` is never written. After report.steps good steps the newest set is `first` (0),
 * `ping` (odd) or `pong` (even). What the step that failed wrote is worth nothing. */
typedef struct TrainArguments {
    Network network;
    Images images;
    const uint8_t *labels; /* (any), below `classes`; picked by index as the images are */
    const Rates *rates;    /* (steps); of LENET_GRADIENT_ONLY NULL */
    const float *first;
    float *ping, *pong;  /* pong: may be NULL if there is one step; both: if there is no update */
    float *gradient;     /* (parameters): that of the last step that was computed; or NULL */
    StepResult *results; /* (steps) */
    Report *report;
    void *workspace; /* of layout.h's `train_workspace_floats`; of one launch at a time */
    Rule rule;
    uint32_t batch;
    uint32_t steps;  /* ceil(images.count / batch) */
    uint32_t launch; /* a number, not 0, that the last launch with this workspace did not have */
    uint32_t reserved;
} TrainArguments;

typedef struct LogitsArguments {
    Network network;
    Images images;
    const float *parameters;
    float *logits;   /* (images.count, classes) */
    void *workspace; /* of layout.h's `logits_workspace_floats`; of one launch at a time */
} LogitsArguments;

/* An ordinary launch, any number of blocks of LENET_THREADS threads, no shared memory. */
typedef struct ApplyArguments {
    const float *now;      /* (1 + averages, parameters) */
    const float *gradient; /* (parameters) */
    float *next;           /* like `now` */
    Report *report; /* the host writes 1 and LENET_FINISHED before; what is not finite makes it 0 and LENET_RESULT_NOT_FINITE */
    Rule rule;
    Rates rates;
    uint32_t parameters;
    uint32_t reserved;
} ApplyArguments;
