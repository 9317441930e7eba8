// What the masks of a group share with their targets and with the consensus, in one pass over the cells.
// A thread takes a cell and goes over the group twice, for the sum of the votes and to count; a warp counts by ballot.
// The same comparisons and order of additions as `overlap::count`, which is the definition. Counts are integers: in
// whatever order blocks add theirs, two runs give the same numbers.

typedef unsigned long long index_t;

#define ALL 0xffffffffu
// Numbers that describe a member.
enum { MASK, WANTED, VOTES, FIELDS };
// What is counted for each member.
enum { DRAWN, TARGET, ON_TARGET, CONSENSUS, ON_CONSENSUS, COLUMNS, ROWS, BROKEN, COUNTS };

static __device__ float probability(const float* logits, int mask, unsigned int cells, unsigned int cell) {
    return mask < 0 ? 0.0f : 1.0f / (1.0f + expf(-logits[(index_t)mask * cells + cell]));
}

static __device__ unsigned int warp_sum(unsigned int value) {
    for (int reach = 16; reach > 0; reach /= 2) value += __shfl_down_sync(ALL, value, reach);
    return value;
}

static __device__ void add(index_t* to, unsigned int count) {
    if (count != 0) atomicAdd(to, (index_t)count);
}

// `logits` [masks, cells], `wanted` [targets, cells], `members` [count, FIELDS] with -1 for no mask and no target,
// `counts` [count, COUNTS], zero before. Whole warps, and count · COUNTS numbers of shared memory.
extern "C" __global__ void overlap_count(const float* logits, const unsigned char* wanted, const int* members,
                                         index_t* counts, int count, unsigned int cells, unsigned int side,
                                         int voters, int leave_one_out) {
    extern __shared__ index_t tally[];
    for (int i = threadIdx.x; i < count * COUNTS; i += blockDim.x) tally[i] = 0;
    __syncthreads();
    bool speaks = threadIdx.x % 32 == 0;
    // Blocks go round as a whole: a ballot needs every lane, also those beyond the last cell, which count nothing.
    for (index_t first = (index_t)blockIdx.x * blockDim.x; first < cells; first += (index_t)gridDim.x * blockDim.x) {
        bool inside = first + threadIdx.x < cells;
        unsigned int cell = (unsigned int)first + threadIdx.x;
        float sum = 0.0f;
        for (int i = 0; inside && i < count; ++i) {
            const int* member = members + i * FIELDS;
            if (member[VOTES]) sum += probability(logits, member[MASK], cells, cell);
        }
        for (int i = 0; i < count; ++i) {
            const int* member = members + i * FIELDS;
            float p = inside ? probability(logits, member[MASK], cells, cell) : 0.0f;
            bool apart = leave_one_out && member[VOTES];
            float others = apart ? sum - p : sum;
            int of = apart ? voters - 1 : voters;
            bool drawn = p > 0.5f;
            bool right = inside && member[WANTED] >= 0 && wanted[(index_t)member[WANTED] * cells + cell];
            bool agreed = inside && of > 0 && others / (float)of > 0.5f;
            unsigned int by_drawn = __ballot_sync(ALL, drawn), by_right = __ballot_sync(ALL, right);
            unsigned int by_agreed = __ballot_sync(ALL, agreed), by_broken = __ballot_sync(ALL, p != p);
            unsigned int columns = 0, rows = 0;
            // The same for all lanes, so that they still go together.
            if (by_drawn != 0) {
                columns = warp_sum(drawn ? cell % side : 0);
                rows = warp_sum(drawn ? cell / side : 0);
            }
            if (speaks) {
                index_t* mine = tally + i * COUNTS;
                add(mine + DRAWN, __popc(by_drawn));
                add(mine + TARGET, __popc(by_right));
                add(mine + ON_TARGET, __popc(by_drawn & by_right));
                add(mine + CONSENSUS, __popc(by_agreed));
                add(mine + ON_CONSENSUS, __popc(by_drawn & by_agreed));
                add(mine + COLUMNS, columns);
                add(mine + ROWS, rows);
                add(mine + BROKEN, __popc(by_broken));
            }
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count * COUNTS; i += blockDim.x) {
        if (tally[i] != 0) atomicAdd(counts + i, tally[i]);
    }
}
