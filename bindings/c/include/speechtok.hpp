// A thin C++17 layer over speechtok.h: memory that frees itself, and exceptions.
#ifndef SPEECHTOK_HPP
#define SPEECHTOK_HPP

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "speechtok.h"

namespace speechtok {

class Error : public std::runtime_error {
public:
    explicit Error(speechtok_status status) : std::runtime_error(speechtok_error_message()), status(status) {}
    const speechtok_status status;
};

inline void check(speechtok_status status) {
    if (status != SPEECHTOK_OK) throw Error(status);
}

// Codes of one utterance, (Q, T), row-major.
struct Codes {
    std::int64_t num_codebooks, num_frames;
    std::vector<std::int64_t> values;
};

class Tokenizer {
public:
    explicit Tokenizer(const std::string &folder) : handle_(load(folder), speechtok_free) {}

    speechtok_info info() const { return speechtok_get_info(handle_.get()); }
    const speechtok_tokenizer *get() const { return handle_.get(); }

    Codes encode(const std::vector<float> &waveform, std::int64_t num_codebooks = 0) const {
        const auto samples = static_cast<std::int64_t>(waveform.size());
        Codes codes{num_codebooks ? num_codebooks : info().num_codebooks, speechtok_num_frames(get(), samples), {}};
        if (codes.num_codebooks > 0) codes.values.resize(static_cast<std::size_t>(codes.num_codebooks * codes.num_frames));
        check(speechtok_encode(get(), waveform.data(), samples, num_codebooks, codes.values.data()));
        return codes;
    }

    // `samples` are those of the result; all of the frames' samples by default.
    std::vector<float> decode(const Codes &codes, std::int64_t samples = -1) const {
        if (codes.num_codebooks * codes.num_frames != static_cast<std::int64_t>(codes.values.size()))
            throw std::invalid_argument("codes.values has another size than num_codebooks * num_frames");
        if (samples < 0) samples = codes.num_frames * info().hop_length;
        std::vector<float> waveform(static_cast<std::size_t>(samples));
        check(speechtok_decode(get(), codes.values.data(), codes.num_codebooks, codes.num_frames, samples,
                               waveform.data()));
        return waveform;
    }

private:
    static speechtok_tokenizer *load(const std::string &folder) {
        speechtok_tokenizer *tokenizer = nullptr;
        check(speechtok_load(folder.c_str(), &tokenizer));
        return tokenizer;
    }
    std::unique_ptr<speechtok_tokenizer, decltype(&speechtok_free)> handle_;
};

// One utterance, piece by piece.
class Stream {
public:
    explicit Stream(const Tokenizer &tokenizer, std::int64_t num_codebooks = 0, std::int64_t sample_rate = 0)
        : info_(tokenizer.info()), num_codebooks_(num_codebooks ? num_codebooks : info_.num_codebooks),
          handle_(open(tokenizer, num_codebooks, sample_rate), speechtok_stream_close) {}

    Codes encode(const std::vector<float> &chunk) {
        if (chunk.empty()) return Codes{num_codebooks_, 0, {}};
        return take(static_cast<std::int64_t>(chunk.size()), chunk.data());
    }
    Codes flush() { return take(0, nullptr); }

    std::vector<float> decode(const Codes &codes) {
        std::vector<float> audio(static_cast<std::size_t>(codes.num_frames * info_.hop_length));
        std::int64_t samples = 0;
        check(speechtok_stream_decode(handle_.get(), codes.values.data(), codes.num_codebooks, codes.num_frames, nullptr,
                                      audio.data(), static_cast<std::int64_t>(audio.size()), &samples));
        audio.resize(static_cast<std::size_t>(samples));
        return audio;
    }
    std::vector<float> drain() {
        std::vector<float> audio(static_cast<std::size_t>(info_.hop_length));
        std::int64_t samples = 0;
        check(speechtok_stream_drain(handle_.get(), nullptr, audio.data(), info_.hop_length, &samples));
        audio.resize(static_cast<std::size_t>(samples));
        return audio;
    }
    void reset() { speechtok_stream_reset(handle_.get(), nullptr); }

private:
    static speechtok_stream *open(const Tokenizer &tokenizer, std::int64_t num_codebooks, std::int64_t sample_rate) {
        speechtok_stream *stream = nullptr;
        check(speechtok_stream_open(tokenizer.get(), 1, num_codebooks, sample_rate, &stream));
        return stream;
    }
    Codes take(std::int64_t samples, const float *chunk) {
        const std::int64_t room = speechtok_stream_max_frames(handle_.get(), samples);
        std::int64_t frames = 0;
        Codes codes{num_codebooks_, room, std::vector<std::int64_t>(static_cast<std::size_t>(num_codebooks_ * room))};
        check(chunk ? speechtok_stream_encode(handle_.get(), chunk, samples, nullptr, codes.values.data(), room, &frames)
                    : speechtok_stream_flush(handle_.get(), nullptr, codes.values.data(), room, &frames));
        return codes; // one row: as many frames as there is room for
    }

    speechtok_info info_;
    std::int64_t num_codebooks_;
    std::unique_ptr<speechtok_stream, decltype(&speechtok_stream_close)> handle_;
};

} // namespace speechtok
#endif
