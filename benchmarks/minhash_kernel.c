/* The bare loop of MinHash: 128 minima of h * a + b over each text's hashes. The least that signing can cost. */
#include <stdint.h>
#include <stddef.h>

void sign(const uint64_t *hashes, const int64_t *offsets, size_t texts, const uint64_t *a, const uint64_t *b, uint32_t *out) {
    for (size_t text = 0; text < texts; text++) {
        uint32_t *row = out + 128 * text;
        for (int p = 0; p < 128; p++) row[p] = UINT32_MAX;
        for (int64_t at = offsets[text]; at < offsets[text + 1]; at++) {
            uint32_t h = (uint32_t)(hashes[at] >> 32);
            for (int p = 0; p < 128; p++) {
                uint32_t v = h * (uint32_t)a[p] + (uint32_t)b[p];
                if (v < row[p]) row[p] = v;
            }
        }
    }
}
