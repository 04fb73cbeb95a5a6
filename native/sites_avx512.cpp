// 32 arrays at a time: sums, levels and contexts are 16-bit lanes, and a level is the number of thresholds that are reached.
#include "sites.hpp"
#include "target.hpp"

namespace attar {

#ifdef ATTAR_X86

namespace {

ATTAR_AVX512 ATTAR_INLINE __m512i load(const uint8_t* bytes) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)));
}

ATTAR_AVX512 ATTAR_INLINE __m512i level(const int16_t* thresholds, size_t count, __m512i value) {
    const __m512i one = _mm512_set1_epi16(1);
    __m512i found = _mm512_setzero_si512();
    for (size_t k = 0; k < count; ++k)
        found = _mm512_mask_add_epi16(found, _mm512_cmpge_epi16_mask(value, _mm512_set1_epi16(thresholds[k])), found, one);
    return found;
}

ATTAR_AVX512 ATTAR_INLINE __m512i predict(const SiteModel& model, const Site& site, size_t at, __m512i west, __m512i north) {
    __m512i regime = _mm512_setzero_si512();
    for (size_t k = 0; k < 3; ++k) {
        regime = _mm512_mask_add_epi16(regime, _mm512_cmpge_epi16_mask(west, _mm512_set1_epi16(model.regime[2 * k])), regime,
                                       _mm512_set1_epi16(4));
        regime = _mm512_mask_add_epi16(regime, _mm512_cmpge_epi16_mask(north, _mm512_set1_epi16(model.regime[2 * k + 1])), regime,
                                       _mm512_set1_epi16(1));
    }
    const auto weight = [&](size_t k) ATTAR_AVX512 {
        return _mm512_permutexvar_epi16(regime, _mm512_castsi256_si512(_mm256_loadu_si256(
                                                    reinterpret_cast<const __m256i*>(site.weight + k * kRegimes))));
    };
    __m512i sum = _mm512_slli_epi16(weight(model.taps), 3);
    for (size_t k = 0; k < model.taps; ++k) sum = _mm512_add_epi16(sum, _mm512_mullo_epi16(weight(k), load(site.taps[k] + at)));
    return sum;
}

ATTAR_AVX512 ATTAR_INLINE __m512i expect(const SiteModel& model, const Site& site, size_t at, __m512i west, __m512i north) {
    const int16_t* spread = site.spread;
    __m512i sum = _mm512_set1_epi16(static_cast<int16_t>(spread[model.errors + kPairs] * 4));
    for (size_t k = 0; k < model.errors; ++k)
        sum = _mm512_add_epi16(sum, _mm512_mullo_epi16(_mm512_set1_epi16(spread[k]), load(site.errors[k] + at)));
    const __m512i corner = load(site.taps[2] + at), east = load(site.taps[3] + at);
    const __m512i pairs[kPairs] = {_mm512_sub_epi16(west, corner), _mm512_sub_epi16(north, corner), _mm512_sub_epi16(east, north),
                                   _mm512_sub_epi16(west, north)};
    for (size_t k = 0; k < kPairs; ++k)
        sum = _mm512_add_epi16(sum, _mm512_mullo_epi16(_mm512_set1_epi16(spread[model.errors + k]), _mm512_abs_epi16(pairs[k])));
    return sum;
}

ATTAR_AVX512 ATTAR_INLINE __m512i clip(__m512i value, int16_t high) {
    return _mm512_max_epi16(_mm512_min_epi16(value, _mm512_set1_epi16(high)), _mm512_setzero_si512());
}

}  // namespace

ATTAR_AVX512 size_t work_avx512(const SiteModel& model, const Site& site, size_t first, size_t n, uint8_t* guesses,
                                uint16_t* contexts) {
    for (; first + 32 <= n; first += 32) {
        const __m512i west = load(site.taps[0] + first), north = load(site.taps[1] + first);
        // The sum that is rounded may not wrap: 8 is added where it stays in range, and the clip sees to the rest.
        __m512i quarter = clip(_mm512_srai_epi16(_mm512_adds_epi16(predict(model, site, first, west, north), _mm512_set1_epi16(8)), 4), 1020);
        __m512i guess = _mm512_srli_epi16(_mm512_add_epi16(quarter, _mm512_set1_epi16(2)), 2);
        __m512i energy = clip(_mm512_srai_epi16(expect(model, site, first, west, north), 2), 2047);
        const __m512i means = _mm512_set1_epi16(static_cast<int16_t>(model.means + 1)),
                      sides = _mm512_set1_epi16(static_cast<int16_t>(model.sides + 1));
        __m512i context = _mm512_add_epi16(_mm512_mullo_epi16(level(model.energy, model.energies, energy), means),
                                           level(model.mean, model.means, quarter));
        context = _mm512_add_epi16(_mm512_mullo_epi16(context, sides), level(model.side, model.sides, _mm512_sub_epi16(west, guess)));
        context = _mm512_add_epi16(_mm512_mullo_epi16(context, sides), level(model.side, model.sides, _mm512_sub_epi16(north, guess)));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(guesses + first), _mm512_cvtepi16_epi8(guess));
        _mm512_storeu_si512(contexts + first, context);
    }
    return first;
}

#else

size_t work_avx512(const SiteModel&, const Site&, size_t first, size_t, uint8_t*, uint16_t*) { return first; }

#endif

}  // namespace attar
