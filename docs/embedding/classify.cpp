// Classifies an image with a TensorRT plan of vggspec, without vggspec.
//
//     classify PLAN IMAGE.ppm [--mean R,G,B] [--gain R,G,B] [--bgr] [--flip] [--labels FILE]
//
// PLAN is 1/model.plan of a bundle; its SHA-256 is in the bundle's manifest.json, as are the
// numbers that the options take: `mean`, in the order of `color`; `gain`, which is scale / std;
// `--bgr` if `color` is BGR; `--flip` if the test protocol averages with mirror images. A plan
// that takes pixels needs none of the first three. The image is a binary PPM, or PGM for a net of
// gray images, already rescaled.
//
// Both flavours of TensorRT have this interface: link nvinfer, or tensorrt_rtx.

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

void require(bool holds, std::string const& otherwise) {
    if (!holds) {
        throw std::runtime_error(otherwise);
    }
}

void check(cudaError_t code, std::string const& what) {
    require(code == cudaSuccess, what + ": " + cudaGetErrorString(code));
}

class Logger : public nvinfer1::ILogger {
    void log(Severity severity, char const* text) noexcept override {
        if (severity <= Severity::kWARNING) {
            std::cerr << text << '\n';
        }
    }
};

class Stream {
public:
    Stream() {
        // TensorRT would wait for the whole device on the default stream.
        check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "no CUDA stream");
    }
    Stream(Stream const&) = delete;
    Stream& operator=(Stream const&) = delete;
    ~Stream() { cudaStreamDestroy(stream_); }

    cudaStream_t get() const { return stream_; }
    void synchronize() const { check(cudaStreamSynchronize(stream_), "the GPU failed"); }

private:
    cudaStream_t stream_{};
};

struct Free {
    void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, Free>;

DeviceMemory allocate(std::size_t bytes) {
    void* memory{};
    check(cudaMalloc(&memory, bytes), "no memory on the GPU");
    return DeviceMemory{memory};
}

struct Image {
    int64_t rows{}, columns{}, channels{};
    std::vector<uint8_t> pixels;  // (rows, columns, channels)
};

struct Options {
    std::string plan, image, labels;
    std::vector<float> mean, gain;
    bool bgr{}, flip{};
};

std::vector<char> readFile(std::string const& path) {
    std::ifstream file{path, std::ios::binary};
    require(file.good(), path + " cannot be read");
    return {std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{}};
}

Image readImage(std::string const& path) {
    std::ifstream file{path, std::ios::binary};
    std::string magic;
    int64_t columns{}, rows{}, white{};
    file >> magic;
    while (file >> std::ws && file.peek() == '#') {
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    file >> columns >> rows >> white;
    bool const isColour = magic == "P6";
    require(file.good() && (isColour || magic == "P5") && white == 255 && rows > 0 && columns > 0
                && rows < 65536 && columns < 65536,
            path + " is not a binary PPM or PGM of 8 bits a channel");
    Image image{rows, columns, isColour ? 3 : 1, {}};
    image.pixels.resize(static_cast<std::size_t>(rows * columns * image.channels));
    file.get();  // one blank separates the header from the pixels
    file.read(reinterpret_cast<char*>(image.pixels.data()),
              static_cast<std::streamsize>(image.pixels.size()));
    require(file.good(), path + " ends before its last pixel");
    return image;
}

Image mirrored(Image image) {
    for (int64_t row = 0; row < image.rows; ++row) {
        auto* const left = image.pixels.data() + row * image.columns * image.channels;
        for (int64_t i = 0, j = image.columns - 1; i < j; ++i, --j) {
            std::swap_ranges(left + i * image.channels, left + (i + 1) * image.channels,
                             left + j * image.channels);
        }
    }
    return image;
}

// Adds an image to a batch of float planes: (x - mean) * gain, x from 0 to 255.
void addPlanes(Image const& image, Options const& options, std::vector<float>& batch) {
    for (int64_t plane = 0; plane < image.channels; ++plane) {
        auto const channel = options.bgr ? image.channels - 1 - plane : plane;
        auto const mean = options.mean.at(static_cast<std::size_t>(plane));
        auto const gain = options.gain.at(static_cast<std::size_t>(plane));
        for (int64_t i = 0; i < image.rows * image.columns; ++i) {
            auto const at = static_cast<std::size_t>(i * image.channels + channel);
            batch.push_back((static_cast<float>(image.pixels[at]) - mean) * gain);
        }
    }
}

// The profile whose best shape is nearest, of those that contain the shape.
std::optional<int32_t> chooseProfile(nvinfer1::ICudaEngine const& engine, char const* name,
                                     nvinfer1::Dims const& shape) {
    using nvinfer1::OptProfileSelector;
    std::optional<int32_t> chosen;
    double nearest = std::numeric_limits<double>::infinity();
    for (int32_t profile = 0; profile < engine.getNbOptimizationProfiles(); ++profile) {
        auto const low = engine.getProfileShape(name, profile, OptProfileSelector::kMIN);
        auto const best = engine.getProfileShape(name, profile, OptProfileSelector::kOPT);
        auto const high = engine.getProfileShape(name, profile, OptProfileSelector::kMAX);
        bool holds = best.nbDims == shape.nbDims;
        double distance = 0;
        for (int32_t axis = 0; holds && axis < shape.nbDims; ++axis) {
            auto const n = shape.d[axis];
            holds = low.d[axis] <= n && n <= high.d[axis];
            distance += std::abs(static_cast<double>(best.d[axis] - n))
                / static_cast<double>(best.d[axis]);
        }
        if (holds && distance < nearest) {
            nearest = distance;
            chosen = profile;
        }
    }
    return chosen;
}

std::size_t volume(nvinfer1::Dims const& shape) {
    return std::accumulate(shape.d, shape.d + shape.nbDims, std::size_t{1},
                           [](std::size_t product, int64_t n) {
                               require(n >= 0, "the plan leaves the shape of a tensor open");
                               return product * static_cast<std::size_t>(n);
                           });
}

std::size_t bytesEach(nvinfer1::DataType type) {
    require(type == nvinfer1::DataType::kFLOAT || type == nvinfer1::DataType::kUINT8,
            "the plan has a tensor that is neither float nor uint8");
    return type == nvinfer1::DataType::kFLOAT ? sizeof(float) : sizeof(uint8_t);
}

// The mean over the batch of the output that has an answer for each class.
std::vector<float> classify(nvinfer1::ICudaEngine& engine, std::vector<Image> const& images,
                            Options const& options) {
    using nvinfer1::TensorIOMode;
    std::vector<char const*> names(static_cast<std::size_t>(engine.getNbIOTensors()));
    for (std::size_t i = 0; i < names.size(); ++i) {
        names[i] = engine.getIOTensorName(static_cast<int32_t>(i));
    }
    auto const isInput = [&engine](char const* name) {
        return engine.getTensorIOMode(name) == TensorIOMode::kINPUT;
    };
    auto const input = std::find_if(names.begin(), names.end(), isInput);
    require(std::count_if(names.begin(), names.end(), isInput) == 1,
            "the plan is not one of vggspec's: it has not one input");

    auto const& first = images.front();
    auto const number = static_cast<int64_t>(images.size());
    bool const isRaw = engine.getTensorDataType(*input) == nvinfer1::DataType::kUINT8;
    nvinfer1::Dims4 const shape = isRaw
        ? nvinfer1::Dims4{number, first.rows, first.columns, first.channels}
        : nvinfer1::Dims4{number, first.channels, first.rows, first.columns};
    auto const profile = chooseProfile(engine, *input, shape);
    require(profile.has_value(), "no profile of the plan takes images of this size and number");

    Stream const stream;
    // Memory for the current profile; the default is that of the largest one.
    std::unique_ptr<nvinfer1::IExecutionContext> const context{engine.createExecutionContext(
        nvinfer1::ExecutionContextAllocationStrategy::kON_PROFILE_CHANGE)};
    require(context != nullptr, "TensorRT makes no execution context");
    require(context->setOptimizationProfileAsync(*profile, stream.get()), "no such profile");
    stream.synchronize();
    require(context->setInputShape(*input, shape), "the plan refuses the input's shape");
    require(context->inferShapes(0, nullptr) == 0, "the plan leaves the shape of a tensor open");

    std::map<std::string, DeviceMemory> memory;
    char const* result{};
    for (auto const* name : names) {
        auto const dims = context->getTensorShape(name);
        memory[name] = allocate(volume(dims) * bytesEach(engine.getTensorDataType(name)));
        require(context->setTensorAddress(name, memory[name].get()), "an address is refused");
        if (std::string{name} == "posteriors" || std::string{name} == "scores") {
            result = name;
        }
    }
    require(result != nullptr, "the plan has no output `posteriors` or `scores`, so no classes");

    std::vector<float> planes;
    std::vector<uint8_t> pixels;
    for (auto const& image : images) {
        if (isRaw) {
            pixels.insert(pixels.end(), image.pixels.begin(), image.pixels.end());
        } else {
            addPlanes(image, options, planes);
        }
    }
    void const* const feed = isRaw ? static_cast<void const*>(pixels.data()) : planes.data();
    auto const feedBytes = volume(shape) * bytesEach(engine.getTensorDataType(*input));
    auto const answerShape = context->getTensorShape(result);
    std::vector<float> answer(volume(answerShape));
    check(cudaMemcpyAsync(memory[*input].get(), feed, feedBytes, cudaMemcpyHostToDevice,
                          stream.get()),
          "the image does not reach the GPU");
    require(context->enqueueV3(stream.get()), "TensorRT could not start the plan");
    check(cudaMemcpyAsync(answer.data(), memory[result].get(), answer.size() * sizeof(float),
                          cudaMemcpyDeviceToHost, stream.get()),
          "the answer does not reach the host");
    stream.synchronize();

    auto const numClasses = static_cast<std::size_t>(answerShape.d[1]);
    std::vector<float> mean(numClasses);
    for (std::size_t i = 0; i < answer.size(); ++i) {
        require(std::isfinite(answer[i]), "the plan's answer is not finite");
        mean[i % numClasses] += answer[i] / static_cast<float>(images.size());
    }
    return mean;
}

std::vector<float> numbers(std::string const& text) {
    std::vector<float> found;
    std::istringstream words{text};
    for (std::string word; std::getline(words, word, ',');) {
        char* end{};
        found.push_back(std::strtof(word.c_str(), &end));
        require(end != word.c_str() && *end == '\0', text + " is not a list of numbers");
    }
    return found;
}

std::optional<Options> parse(std::vector<std::string> const& args) {
    Options options;
    std::vector<std::string> files;
    for (auto arg = args.begin(); arg != args.end(); ++arg) {
        bool const takesValue = *arg == "--mean" || *arg == "--gain" || *arg == "--labels";
        auto const name = *arg;
        if (takesValue && ++arg == args.end()) {
            return std::nullopt;
        }
        if (name == "--mean") {
            options.mean = numbers(*arg);
        } else if (name == "--gain") {
            options.gain = numbers(*arg);
        } else if (name == "--labels") {
            options.labels = *arg;
        } else if (name == "--bgr") {
            options.bgr = true;
        } else if (name == "--flip") {
            options.flip = true;
        } else if (name.rfind("--", 0) == 0) {
            return std::nullopt;
        } else {
            files.push_back(name);
        }
    }
    if (files.size() != 2) {
        return std::nullopt;
    }
    options.plan = files[0];
    options.image = files[1];
    return options;
}

void run(Options options) {
    auto const plan = readFile(options.plan);
    std::vector<Image> images{readImage(options.image)};
    auto const channels = static_cast<std::size_t>(images.front().channels);
    if (options.mean.empty()) {
        options.mean.assign(channels, 0.0F);
    }
    if (options.gain.empty()) {
        options.gain.assign(channels, 1.0F);
    }
    require(options.mean.size() == channels && options.gain.size() == channels,
            "--mean and --gain take as many numbers as the image has channels");
    if (options.flip) {
        images.push_back(mirrored(images.front()));
    }

    Logger logger;
    std::unique_ptr<nvinfer1::IRuntime> const runtime{nvinfer1::createInferRuntime(logger)};
    require(runtime != nullptr, "TensorRT does not start");
    std::unique_ptr<nvinfer1::ICudaEngine> const engine{
        runtime->deserializeCudaEngine(plan.data(), plan.size())};
    require(engine != nullptr, "TensorRT refuses the plan");
    auto const answer = classify(*engine, images, options);

    std::vector<std::string> labels;
    if (!options.labels.empty()) {
        std::ifstream file{options.labels};
        require(file.good(), options.labels + " cannot be read");
        for (std::string line; std::getline(file, line);) {
            labels.push_back(line);
        }
    }
    std::vector<std::size_t> ranking(answer.size());
    std::iota(ranking.begin(), ranking.end(), std::size_t{0});
    std::stable_sort(ranking.begin(), ranking.end(),
                     [&answer](auto a, auto b) { return answer[a] > answer[b]; });
    for (std::size_t i = 0; i < std::min<std::size_t>(5, ranking.size()); ++i) {
        auto const index = ranking[i];
        auto const label = index < labels.size() ? labels[index] : std::to_string(index);
        std::cout << answer[index] << "  " << label << '\n';
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        auto const options = parse({argv + 1, argv + argc});
        if (!options) {
            std::cerr << "usage: classify PLAN IMAGE.ppm [--mean R,G,B] [--gain R,G,B] [--bgr]"
                         " [--flip] [--labels FILE]\n";
            return 2;
        }
        run(*options);
    } catch (std::exception const& error) {
        std::cerr << "error: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
