// Images from the dataset into shared memory, as the network sees them.
//
// A block handles one image at a time, and asks for the first pixels of the next one while it still works on this one: memory
// answers in the meantime. What changes images (shifts, flips) belongs into `store`: it says where in the padded image a pixel
// goes.
#pragma once

#include "shared.cuh"

// An image that has been asked for.
struct Asked {
    bool there = false;
    uint32_t index = 0; // in the dataset
    uint32_t word = 0;  // this thread's four bytes
    uint32_t label = 0;
};

template <class Shape> struct Loader {
    const Shape &shape;
    const Images &images;
    const uint8_t *labels; // NULL: there are none

    DEVICE Loader(const Shape &shape, const Images &images, const uint8_t *labels) : shape(shape), images(images), labels(labels) {}

    // Where image i of the launch lies in the dataset.
    DEVICE uint32_t index(int i) const { return images.indices != nullptr ? images.indices[i] : static_cast<uint32_t>(i); }

    DEVICE void ask(Asked &asked, uint32_t index) const {
        asked.there = true;
        asked.index = index;
        const int word = static_cast<int>(opaque(thread_index()));
        if (images.floats == 0 && word < shape.pixels() / 4) {
            asked.word = bytes(index)[word];
        }
        if (labels != nullptr) {
            asked.label = labels[index];
        }
    }

    // Zeros around the image, and what the network sees of each byte: once a launch.
    DEVICE void prepare(const Shared<Shape> &shared) const {
        const int thread = this_thread().index;
        for (int i = thread; i < (shape.height() + 2 * shape.padding()) * shared.image_row(); i += THREADS) {
            shared.image()[i] = 0;
        }
        shared.pixels()[thread] = normalized(static_cast<float>(thread) / 255.0f);
    }

    // All of the image; the border is zero already.
    DEVICE void store(const Asked &asked, const Shared<Shape> &shared) const {
        const int thread = this_thread().index;
        if (images.floats == 0) {
#pragma unroll 1
            for (int word = thread; word < shape.pixels() / 4; word += THREADS) {
                const uint32_t four = word == thread ? asked.word : bytes(asked.index)[word];
                const float *seen = shared.pixels();
                float *to = place(shared, 4 * word);
                store2(to, seen[four & 255], seen[four >> 8 & 255]);
                store2(to + 2, seen[four >> 16 & 255], seen[four >> 24]);
            }
        } else {
            const float *image = static_cast<const float *>(images.pixels) + static_cast<int64_t>(asked.index) * shape.pixels();
#pragma unroll 1
            for (int pixel = thread; pixel < shape.pixels(); pixel += THREADS) {
                *place(shared, pixel) = normalized(image[pixel]);
            }
        }
    }

  private:
    DEVICE const uint32_t *bytes(uint32_t index) const {
        const uint8_t *image = static_cast<const uint8_t *>(images.pixels) + static_cast<int64_t>(index) * shape.pixels();
        return reinterpret_cast<const uint32_t *>(image);
    }
    DEVICE float normalized(float pixel) const { return (pixel - images.mean) / images.std; }
    DEVICE float *place(const Shared<Shape> &shared, int pixel) const {
        const int y = pixel / shape.width(), x = pixel % shape.width();
        return shared.image() + (y + shape.padding()) * shared.image_row() + x + shape.padding();
    }
};
