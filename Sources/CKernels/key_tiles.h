/// The walk of an attention kernel through its keys, tile by tile. Tiles begin at multiples of KEYS in absolute
/// positions, whatever the spans.
///
/// The file that includes this says what it walks through: `key_span` and the type of its keys, `key_element`.
#ifndef LORA_KEY_TILES_H
#define LORA_KEY_TILES_H

#include <stddef.h>

enum { KEYS = 64, MAXIMUM_D = 256 };

/// The part of a tile that lies in one span.
typedef struct key_segment {
    const key_span *span;
    size_t offset;  // in the span
    size_t at;      // in the tile
    size_t count;
} key_segment;

/// A walk through the spans, tile by tile.
typedef struct key_tile {
    size_t start, count;
    const key_element *keys[KEYS], *values[KEYS];  // the rows
    key_segment segments[KEYS];
    size_t segment_count;
    const key_span *span;  // where the next tile begins
    size_t spans_left, offset;
} key_tile;

/// Steps to the next tile of the positions below `limit`; returns 0 at the end.
static int next_tile(key_tile *tile, size_t key_stride, size_t limit) {
    tile->start += tile->count;
    tile->count = 0;
    tile->segment_count = 0;
    size_t wanted = tile->start >= limit ? 0 : limit - tile->start < KEYS ? limit - tile->start : KEYS;
    while (tile->count < wanted && tile->spans_left > 0) {
        size_t left = tile->span->count - tile->offset;
        if (left == 0) {
            tile->span++, tile->spans_left--, tile->offset = 0;
            continue;
        }
        size_t count = left < wanted - tile->count ? left : wanted - tile->count;
        tile->segments[tile->segment_count++] = (key_segment){tile->span, tile->offset, tile->count, count};
        for (size_t i = 0; i < count; i++) {
            tile->keys[tile->count + i] = tile->span->keys + (tile->offset + i) * key_stride;
            tile->values[tile->count + i] = tile->span->values + (tile->offset + i) * key_stride;
        }
        tile->offset += count, tile->count += count;
    }
    return tile->count > 0;
}

/// Repeats the last row up to a multiple of `lanes`.
static inline void fill_rows(key_tile *tile, size_t lanes) {
    for (size_t k = tile->count; k % lanes != 0; k++) {
        tile->keys[k] = tile->keys[tile->count - 1];
        tile->values[k] = tile->values[tile->count - 1];
    }
}

/// How many keys of the tile a query at `position` sees; the tile begins at or before it.
static size_t seen_of_tile(const key_tile *tile, size_t position) {
    size_t seen = position + 1 - tile->start;
    return seen < tile->count ? seen : tile->count;
}

#endif
