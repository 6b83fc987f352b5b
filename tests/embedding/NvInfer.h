// What docs/embedding/classify.cpp uses of TensorRT, so that it runs without a GPU.
//
// A plan is a text: 0 for floats or 1 for pixels, the number of classes and that of profiles, and
// for each profile the four numbers of its least, best and largest shape. The net adds up its
// input: class k of an image is the mean of the numbers whose place leaves k when divided by the
// number of classes. TensorRT's order of calls is held: profile, shape, addresses, run.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace nvinfer1 {

enum class DataType : int32_t { kFLOAT, kUINT8 };
enum class TensorIOMode : int32_t { kINPUT, kOUTPUT };
enum class OptProfileSelector : int32_t { kMIN, kOPT, kMAX };
enum class ExecutionContextAllocationStrategy : int32_t { kSTATIC, kON_PROFILE_CHANGE };

struct Dims {
    int32_t nbDims{};
    int64_t d[8]{};
};

struct Dims4 : Dims {
    Dims4(int64_t a, int64_t b, int64_t c, int64_t e) : Dims{4, {a, b, c, e}} {}
};

class ILogger {
public:
    enum class Severity : int32_t { kERROR = 1, kWARNING = 2 };
    virtual void log(Severity severity, char const* text) noexcept = 0;
    virtual ~ILogger() = default;
};

struct Plan {
    bool isRaw{};
    int64_t classes{};
    std::vector<Dims> shapes;  // three a profile
};

class IExecutionContext {
public:
    explicit IExecutionContext(Plan plan) : plan_{std::move(plan)} {}

    bool setOptimizationProfileAsync(int32_t profile, cudaStream_t) {
        profile_ = profile;
        return !fails("setOptimizationProfileAsync")
            && 3 * static_cast<std::size_t>(profile) < plan_.shapes.size();
    }

    bool setInputShape(char const*, Dims const& shape) {
        auto const* bounds = plan_.shapes.data() + 3 * profile_;
        for (int32_t axis = 0; axis < shape.nbDims; ++axis) {
            auto const n = shape.d[axis];
            if (profile_ < 0 || n < bounds[0].d[axis] || n > bounds[2].d[axis]) {
                return false;
            }
        }
        shape_ = shape;
        return !fails("setInputShape");
    }

    int32_t inferShapes(int32_t, char const**) {
        return shape_.nbDims == 0 || fails("inferShapes") ? 1 : 0;
    }

    Dims getTensorShape(char const* name) const {
        return std::string{name} == "image" ? shape_ : Dims{2, {shape_.d[0], plan_.classes}};
    }

    bool setTensorAddress(char const* name, void* address) {
        addresses_[name] = address;
        return !fails("setTensorAddress");
    }

    bool enqueueV3(cudaStream_t) {
        if (shape_.nbDims == 0 || addresses_.size() != 2 || fails("enqueueV3")) {
            return false;
        }
        auto const each = shape_.d[1] * shape_.d[2] * shape_.d[3];
        auto* const answer = static_cast<float*>(addresses_["posteriors"]);
        for (int64_t image = 0; image < shape_.d[0]; ++image) {
            std::vector<double> sums(static_cast<std::size_t>(plan_.classes));
            for (int64_t i = 0; i < each; ++i) {
                sums[static_cast<std::size_t>(i % plan_.classes)] += number(image * each + i);
            }
            for (int64_t k = 0; k < plan_.classes; ++k) {
                auto const share = static_cast<double>(each) / static_cast<double>(plan_.classes);
                answer[image * plan_.classes + k]
                    = static_cast<float>(sums[static_cast<std::size_t>(k)] / share);
            }
        }
        return true;
    }

private:
    double number(int64_t at) {
        auto const* const image = addresses_["image"];
        return plan_.isRaw ? static_cast<uint8_t const*>(image)[at]
                           : static_cast<double>(static_cast<float const*>(image)[at]);
    }

    Plan plan_;
    int32_t profile_{-1};
    Dims shape_;
    std::map<std::string, void*> addresses_;
};

class ICudaEngine {
public:
    explicit ICudaEngine(Plan plan) : plan_{std::move(plan)} {}

    int32_t getNbIOTensors() const { return 2; }
    char const* getIOTensorName(int32_t i) const { return i == 0 ? "image" : "posteriors"; }

    TensorIOMode getTensorIOMode(char const* name) const {
        return std::string{name} == "image" ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }

    DataType getTensorDataType(char const* name) const {
        bool const isPixels = plan_.isRaw && std::string{name} == "image";
        return isPixels ? DataType::kUINT8 : DataType::kFLOAT;
    }

    int32_t getNbOptimizationProfiles() const {
        return static_cast<int32_t>(plan_.shapes.size() / 3);
    }

    Dims getProfileShape(char const*, int32_t profile, OptProfileSelector which) const {
        return plan_.shapes.at(static_cast<std::size_t>(3 * profile + static_cast<int32_t>(which)));
    }

    IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy) {
        return fails("createExecutionContext") ? nullptr : new IExecutionContext{plan_};
    }

private:
    Plan plan_;
};

class IRuntime {
public:
    ICudaEngine* deserializeCudaEngine(void const* data, std::size_t bytes) {
        std::istringstream text{std::string{static_cast<char const*>(data), bytes}};
        Plan plan;
        std::size_t profiles{};
        text >> plan.isRaw >> plan.classes >> profiles;
        plan.shapes.resize(text ? 3 * profiles : 0);
        for (auto& shape : plan.shapes) {
            shape.nbDims = 4;
            text >> shape.d[0] >> shape.d[1] >> shape.d[2] >> shape.d[3];
        }
        return text && !fails("deserializeCudaEngine") ? new ICudaEngine{plan} : nullptr;
    }
};

inline IRuntime* createInferRuntime(ILogger&) {
    return fails("createInferRuntime") ? nullptr : new IRuntime;
}

}  // namespace nvinfer1
