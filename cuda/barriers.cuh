// Blocks that wait for each other. They must be on the device together, which a cooperative launch promises.
#pragma once

#include "shared.cuh"

// The upper bit of the counter changes when the last of `blocks` blocks has come; the lower ones are zero again then. So the next
// barrier may be for another number of blocks.
DEVICE void wait_for_blocks(unsigned *counter, unsigned blocks, bool leader) {
    const unsigned turn = 0x80000000u;
    const unsigned before = atomic_add_acquire_release(counter, leader ? turn - (blocks - 1) : 1);
    while (((before ^ load_acquire(counter)) & turn) == 0) {
    }
}

DEVICE void blocks_barrier(unsigned *counter, unsigned blocks, bool leader) {
    block_barrier();
    if (thread_index() == 0) {
        wait_for_blocks(counter, blocks, leader);
    }
    block_barrier();
}

// Of the 16 blocks that handle 16 images together.
DEVICE void group_barrier(unsigned *counter) {
    blocks_barrier(counter, GROUP, block_index() % GROUP == 0);
}

DEVICE void grid_barrier(unsigned *counter) {
    blocks_barrier(counter, block_count(), block_index() == 0);
}
