// Depthwise convolution of channel-last maps and its gradients; one thread an element, channels innermost, so that
// neighbouring threads read neighbouring numbers. Compiled at run time (NVRTC) for the device that is there.
// Every sum is taken in a fixed order: two runs give the same numbers.

typedef unsigned long long index_t;

// Sizes of both maps, the kernel, and the zeros before the first row and column.
#define SHAPE                                                                                                          \
    int n, int height, int width, int channels, int out_height, int out_width, int kernel, int stride, int top, int left

extern "C" __global__ void depthwise_forward(const float* x, const float* weight, const float* bias, float* y, SHAPE) {
    index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (index_t)n * out_height * out_width * channels) return;
    int c = i % channels;
    int column = i / channels % out_width;
    int row = i / channels / out_width % out_height;
    int image = i / channels / out_width / out_height;
    float sum = bias[c];
    for (int ky = 0; ky < kernel; ++ky) {
        int sy = row * stride + ky - top;
        if (sy < 0 || sy >= height) continue;
        for (int kx = 0; kx < kernel; ++kx) {
            int sx = column * stride + kx - left;
            if (sx < 0 || sx >= width) continue;
            sum += x[(((index_t)image * height + sy) * width + sx) * channels + c] * weight[(ky * kernel + kx) * channels + c];
        }
    }
    y[i] = sum;
}

extern "C" __global__ void depthwise_input_gradient(const float* gradient, const float* weight, float* dx, SHAPE) {
    index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (index_t)n * height * width * channels) return;
    int c = i % channels;
    int column = i / channels % width;
    int row = i / channels / width % height;
    int image = i / channels / width / height;
    float sum = 0.0f;
    for (int ky = 0; ky < kernel; ++ky) {
        int reach = row + top - ky;
        if (reach < 0 || reach % stride != 0 || reach / stride >= out_height) continue;
        for (int kx = 0; kx < kernel; ++kx) {
            int across = column + left - kx;
            if (across < 0 || across % stride != 0 || across / stride >= out_width) continue;
            index_t at = ((index_t)image * out_height + reach / stride) * out_width + across / stride;
            sum += gradient[at * channels + c] * weight[(ky * kernel + kx) * channels + c];
        }
    }
    dx[i] = sum;
}

// Block (32 channels, 8 lanes) of grid (kernel², ⌈channels/32⌉, parts): the tap's sum over one part of all output places.
extern "C" __global__ void depthwise_weight_parts(const float* x, const float* gradient, float* parts, SHAPE) {
    __shared__ float lanes[8][32];
    int tap = blockIdx.x, c = blockIdx.y * 32 + threadIdx.x;
    int ky = tap / kernel, kx = tap % kernel;
    index_t places = (index_t)n * out_height * out_width;
    index_t share = (places + gridDim.z - 1) / gridDim.z;
    index_t end = min((blockIdx.z + 1) * share, places);
    float sum = 0.0f;
    if (c < channels) {
        for (index_t p = blockIdx.z * share + threadIdx.y; p < end; p += 8) {
            int sy = (int)(p / out_width % out_height) * stride + ky - top;
            int sx = (int)(p % out_width) * stride + kx - left;
            if (sy < 0 || sy >= height || sx < 0 || sx >= width) continue;
            index_t image = p / out_width / out_height;
            sum += gradient[p * channels + c] * x[((image * height + sy) * width + sx) * channels + c];
        }
    }
    lanes[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && c < channels) {
        for (int lane = 1; lane < 8; ++lane) sum += lanes[lane][threadIdx.x];
        parts[((index_t)blockIdx.z * kernel * kernel + tap) * channels + c] = sum;
    }
}

extern "C" __global__ void depthwise_weight_sum(const float* parts, float* dw, int count, int size) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    float sum = 0.0f;
    for (int part = 0; part < count; ++part) sum += parts[(index_t)part * size + i];
    dw[i] = sum;
}
