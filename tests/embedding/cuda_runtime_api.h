// What docs/embedding/classify.cpp uses of CUDA's runtime, on the host's memory.
//
// The call that the environment variable FAIL names fails.

#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>

inline bool fails(char const* call) {
    char const* const name = std::getenv("FAIL");
    return name != nullptr && std::strcmp(name, call) == 0;
}

enum cudaError_t { cudaSuccess = 0, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
using cudaStream_t = int*;
constexpr unsigned cudaStreamNonBlocking = 1;

inline cudaError_t result(char const* call) {
    return fails(call) ? cudaErrorMemoryAllocation : cudaSuccess;
}

inline char const* cudaGetErrorString(cudaError_t) { return "out of memory"; }

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = fails("cudaStreamCreateWithFlags") ? nullptr : new int{};
    return result("cudaStreamCreateWithFlags");
}

inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
    return result("cudaStreamSynchronize");
}

inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
    *memory = fails("cudaMalloc") ? nullptr : std::malloc(bytes);
    return result("cudaMalloc");
}

inline cudaError_t cudaFree(void* memory) {
    std::free(memory);
    return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
    std::memcpy(to, from, bytes);
    return result("cudaMemcpyAsync");
}
