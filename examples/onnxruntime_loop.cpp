// Frames through a model file without Python: ONNX Runtime's C API and the contract of docs/files.md.
//
//     onnxruntime_loop MODEL.onnx frames.raw [FRAMES]
//
// frames.raw holds one BGR frame after the other, of the size that the file takes (ssn-export --frame makes
// that the camera's). One line a frame: number, score, OK or NG, milliseconds. OK and NG need a file
// exported with --verdict; without it the map's maximum is printed instead.
//
// Build, with the headers and library of an onnxruntime release:
//     g++ -std=c++17 -O2 onnxruntime_loop.cpp -I$ORT/include -L$ORT/lib -lonnxruntime -Wl,-rpath,$ORT/lib

#include <onnxruntime_c_api.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

const OrtApi *api = nullptr;

void check(OrtStatus *status) {
    if (!status) return;
    std::string message = api->GetErrorMessage(status);
    api->ReleaseStatus(status);
    throw std::runtime_error(message);
}

// One of the API's objects, released with the function that belongs to it.
template <typename T> using Owned = std::unique_ptr<T, void (*)(T *)>;

template <typename T, typename Make> Owned<T> made(void (*release)(T *), Make make) {
    T *object = nullptr;
    check(make(&object));
    return Owned<T>(object, release);
}

class Model {
public:
    explicit Model(const char *path)
        : env_(made<OrtEnv>(api->ReleaseEnv, [](OrtEnv **out) {
              return api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "ssn-edge", out);
          })),
          options_(made<OrtSessionOptions>(api->ReleaseSessionOptions, [](OrtSessionOptions **out) {
              return api->CreateSessionOptions(out);
          })),
          session_(made<OrtSession>(api->ReleaseSession, [&](OrtSession **out) {
              return api->CreateSession(env_.get(), path, options_.get(), out);
          })),
          memory_(made<OrtMemoryInfo>(api->ReleaseMemoryInfo, [](OrtMemoryInfo **out) {
              return api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, out);
          })) {
        find_outputs();
        auto type = made<OrtTypeInfo>(api->ReleaseTypeInfo, [&](OrtTypeInfo **out) {
            return api->SessionGetInputTypeInfo(session_.get(), 0, out);
        });
        const OrtTensorTypeAndShapeInfo *shape = nullptr;
        check(api->CastTypeInfoToTensorInfo(type.get(), &shape));
        check(api->GetDimensions(shape, shape_, 4));
        shape_[0] = 1;  // the batch's axis is free
        frame_.resize(shape_[1] * shape_[2] * shape_[3]);
        input_ = made<OrtValue>(api->ReleaseValue, [&](OrtValue **out) {
            return api->CreateTensorWithDataAsOrtValue(memory_.get(), frame_.data(), frame_.size(), shape_, 4,
                                                       ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, out);
        });
    }

    // uint8 [height, width, 3] BGR, to be written before run().
    std::vector<uint8_t> &frame() { return frame_; }
    int64_t height() const { return shape_[1]; }
    int64_t width() const { return shape_[2]; }
    bool judges() const { return names_.size() == 4; }

    struct Result {
        float score, map_max;
        bool is_defect;
    };

    Result run() {
        const char *input_name = "image";
        const OrtValue *input = input_.get();
        std::vector<OrtValue *> outputs(names_.size(), nullptr);
        check(api->Run(session_.get(), nullptr, &input_name, &input, 1, names_.data(), names_.size(),
                       outputs.data()));
        std::vector<Owned<OrtValue>> owned;
        for (OrtValue *value : outputs) owned.emplace_back(value, api->ReleaseValue);
        auto shape = made<OrtTensorTypeAndShapeInfo>(
            api->ReleaseTensorTypeAndShapeInfo,
            [&](OrtTensorTypeAndShapeInfo **out) { return api->GetTensorTypeAndShape(outputs[0], out); });
        size_t count = 0;
        check(api->GetTensorShapeElementCount(shape.get(), &count));
        const float *map = data<float>(outputs[0]);
        return {*data<float>(outputs[1]), *std::max_element(map, map + count),
                judges() && *data<uint8_t>(outputs[3])};
    }

private:
    template <typename T> static T *data(OrtValue *value) {
        void *found = nullptr;
        check(api->GetTensorMutableData(value, &found));
        return static_cast<T *>(found);
    }

    void find_outputs() {
        size_t count = 0;
        check(api->SessionGetOutputCount(session_.get(), &count));
        names_ = {"anomaly_map", "score"};
        if (count == 4) names_.insert(names_.end(), {"mask", "is_defect"});
    }

    Owned<OrtEnv> env_;
    Owned<OrtSessionOptions> options_;
    Owned<OrtSession> session_;
    Owned<OrtMemoryInfo> memory_;
    Owned<OrtValue> input_{nullptr, [](OrtValue *) {}};
    std::vector<const char *> names_;
    std::vector<uint8_t> frame_;
    int64_t shape_[4] = {};
};

int loop(const char *path, const char *raw, long limit) {
    Model model(path);
    std::ifstream file(raw, std::ios::binary);
    if (!file) throw std::runtime_error(std::string(raw) + ": cannot be read");
    std::printf("%ldx%ld BGR\n", static_cast<long>(model.height()), static_cast<long>(model.width()));
    long frames = 0, defects = 0;
    char *bytes = reinterpret_cast<char *>(model.frame().data());
    while ((!limit || frames < limit) && file.read(bytes, model.frame().size())) {
        auto start = std::chrono::steady_clock::now();
        Model::Result result = model.run();
        std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
        std::string verdict = result.is_defect ? "NG" : "OK";
        if (!model.judges()) verdict = std::to_string(result.map_max);
        std::printf("%ld %.9g %s %.3f ms\n", frames++, result.score, verdict.c_str(), took.count());
        defects += result.is_defect;
    }
    std::printf("%ld frames, %ld NG\n", frames, defects);
    return 0;
}

}  // namespace

int main(int count, char **words) {
    if (count < 3) {
        std::fprintf(stderr, "usage: %s MODEL.onnx frames.raw [FRAMES]\n", words[0]);
        return 2;
    }
    // From 1.29 on ONNX Runtime reports to its maker unless this is set before it is first called.
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    try {
        api = OrtGetApiBase()->GetApi(1);  // the first version has all that is used here
        if (!api) throw std::runtime_error("this ONNX Runtime does not offer version 1 of its C API");
        return loop(words[1], words[2], count > 3 ? std::atol(words[3]) : 0);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 2;
    }
}
