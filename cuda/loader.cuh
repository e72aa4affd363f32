// Images from the dataset into shared memory, as the network sees them.
//
// A block handles one image at a time, and asks for the first pixels of the next one while it still works on this one: memory
// answers in the meantime. What changes images (shifts, flips) belongs into `store`: it says where in the padded image a pixel goes.
#pragma once

#include "shared.cuh"

// byte / 255, rounded as a division: the error of the product with 1 / 255 is computed and taken off.
DEVICE float of_byte(uint32_t byte) {
    const float value = static_cast<float>(byte), reciprocal = 1.0f / 255.0f;
    const float quotient = value * reciprocal;
    return fmaf(fmaf(-255.0f, quotient, value), reciprocal, quotient);
}

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

    // All of the image; the border is zero already.
    DEVICE void store(const Asked &asked, const Shared<Shape> &shared) const {
        const int thread = static_cast<int>(opaque(thread_index()));
        const bool plain = images.mean == 0.0f && images.std == 1.0f;
        for (int word = thread; word < shape.pixels() / 4; word += THREADS) {
            float4 pixels;
            if (images.floats == 0) {
                const uint32_t four = word == thread ? asked.word : bytes(asked.index)[word];
                pixels = {of_byte(four & 255), of_byte(four >> 8 & 255), of_byte(four >> 16 & 255), of_byte(four >> 24)};
            } else {
                const float *image = static_cast<const float *>(images.pixels) + static_cast<int64_t>(asked.index) * shape.pixels();
                pixels = load4(image + 4 * word);
            }
            if (!plain) {
                pixels = {normalized(pixels.x), normalized(pixels.y), normalized(pixels.z), normalized(pixels.w)};
            }
            const int y = word / (shape.width() / 4), x = word % (shape.width() / 4) * 4;
            float *to = shared.image() + (y + shape.padding()) * shared.image_row() + x + shape.padding();
            store2(to, pixels.x, pixels.y);
            store2(to + 2, pixels.z, pixels.w);
        }
    }

  private:
    DEVICE const uint32_t *bytes(uint32_t index) const {
        const uint8_t *image = static_cast<const uint8_t *>(images.pixels) + static_cast<int64_t>(index) * shape.pixels();
        return reinterpret_cast<const uint32_t *>(image);
    }
    DEVICE float normalized(float pixel) const { return (pixel - images.mean) / images.std; }
};
