// Runs LeNet's kernels with what comes from standard input, and writes what they give to standard output. driver.rs is the
// other side. All numbers are as this machine has them; a request is a `Request`, and behind it
//   of training and logits: pixels (dataset, height, width), bytes or floats; indices (count), if there are any;
//   of training: labels (dataset) as words, rates (steps) if there is a rule, the set of weights;
//   of logits: parameters; of a step of an optimizer: the set, the gradient, rates.
// An answer is
//   of training: report, results (steps), gradient, the newest set if there is a rule;
//   of logits: (count, classes); of a step of an optimizer: report, set.
//
//   lenet_driver [N [COUNT]]
// takes out statement N of those that ask `kept`; N is -1: none, -2: none, but atomic operations order nothing. Behind the
// last answer come COUNT words: whether a thread came by that statement.

#include "lenet_modules.h"
#include "layout.h"
#include "machine.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

using namespace cuda_on_cpu;

namespace {

enum What : std::uint32_t { TRAIN, LOGITS, APPLY };

struct Request {
    std::uint32_t what;
    Network network;
    std::uint32_t floats, dataset, count, indexed;
    float mean, std;
    std::uint32_t batch, steps;
    Rule rule;
    std::uint32_t parameters, groups, order, seed;
    std::uint32_t launches; // as many times over, with one workspace
    char shape[16], activation[16], pooling[16];
};

bool read_bytes(void *to, std::size_t bytes) {
    return std::fread(to, 1, bytes, stdin) == bytes;
}

void write_bytes(const void *from, std::size_t bytes) {
    if (std::fwrite(from, 1, bytes, stdout) != bytes) {
        fail("the answer cannot be written");
    }
}

// Memory of the device, for as long as a request takes.
template <typename T> class Device {
public:
    explicit Device(std::size_t count) : memory(allocate<T>(count)), count(count) {}
    Device(const Device &) = delete;
    Device &operator=(const Device &) = delete;
    ~Device() { release(memory); }

    Device &from_request() {
        if (!read_bytes(memory, bytes())) {
            fail("the request ends too early");
        }
        return *this;
    }
    void to_answer() const { write_bytes(memory, bytes()); }
    void fill(int byte) { std::memset(memory, byte, bytes()); }
    std::size_t bytes() const { return count * sizeof(T); }

    T *const memory;

private:
    const std::size_t count;
};

const Module &module_of(const Request &request) {
    for (const Module &module : MODULES_HERE) {
        if (std::string(module.shape) == request.shape && std::string(module.activation) == request.activation &&
            std::string(module.pooling) == request.pooling) {
            return module;
        }
    }
    fail("no module %s, %s, %s", request.shape, request.activation, request.pooling);
}

// Workspaces are filled with NaN, but for their barriers.
void begin_workspace(Device<float> &workspace) {
    workspace.fill(0xff);
    std::memset(workspace.memory, 0, LENET_BARRIER_WORDS * sizeof(float));
}

unsigned averages_of(const Rule &rule) {
    return rule.rule == LENET_ADAMW ? 2 : rule.rule == LENET_SGD_MOMENTUM ? 1 : 0;
}

cuda_on_cpu::Launch grid(const Request &request, unsigned blocks, std::size_t shared) {
    return {blocks, LENET_THREADS, shared, static_cast<Order>(request.order), request.seed};
}

// What both kernels read.
struct Inputs {
    Device<unsigned char> pixels;
    Device<std::uint32_t> indices;

    explicit Inputs(const Request &request)
        : pixels(std::size_t(request.dataset) * request.network.height * request.network.width *
                 (request.floats != 0 ? sizeof(float) : 1)),
          indices(request.indexed != 0 ? request.count : 0) {
        pixels.from_request();
        indices.from_request();
    }

    Images images(const Request &request) const {
        const std::uint32_t *index = request.indexed != 0 ? indices.memory : nullptr;
        return {pixels.memory, index, request.floats, request.count, request.mean, request.std};
    }
};

void train(const Request &request) {
    const Module &module = module_of(request);
    const Inputs inputs(request);
    Device<std::uint32_t> wide_labels(request.dataset);
    wide_labels.from_request();
    Device<std::uint8_t> labels(request.dataset);
    for (std::uint32_t i = 0; i < request.dataset; i++) {
        labels.memory[i] = static_cast<std::uint8_t>(wide_labels.memory[i]);
    }
    const bool updates = request.rule.rule != LENET_GRADIENT_ONLY;
    const std::size_t n = parameter_count(request.network), set = (1 + averages_of(request.rule)) * n;
    Device<Rates> rates(updates ? request.steps : 0);
    rates.from_request();
    Device<float> first(set), ping(updates ? set : 0), pong(updates && request.steps > 1 ? set : 0), gradient(n);
    first.from_request();
    Device<StepResult> results(request.steps);
    Device<Report> report(1);
    Device<float> workspace(train_workspace_floats(request.network, request.batch, request.groups));
    begin_workspace(workspace);

    for (std::uint32_t launched = 1; launched <= request.launches; launched++) {
        ping.fill(0xff);
        pong.fill(0xff);
        gradient.fill(0xff);
        results.fill(0);
        report.fill(0xff);
        const TrainArguments arguments = {request.network,
                                          inputs.images(request),
                                          labels.memory,
                                          updates ? rates.memory : nullptr,
                                          first.memory,
                                          updates ? ping.memory : nullptr,
                                          updates && request.steps > 1 ? pong.memory : nullptr,
                                          gradient.memory,
                                          results.memory,
                                          report.memory,
                                          workspace.memory,
                                          request.rule,
                                          request.batch,
                                          request.steps,
                                          launched,
                                          0};
        launch(grid(request, LENET_GROUP * request.groups, shared_bytes(request.network)),
               [&] { module.train(arguments); });
    }
    report.to_answer();
    results.to_answer();
    gradient.to_answer();
    if (updates) {
        const std::uint32_t steps = report.memory->steps;
        (steps == 0 ? first : steps % 2 == 1 ? ping : pong).to_answer();
    }
}

void compute_logits(const Request &request) {
    const Module &module = module_of(request);
    const Inputs inputs(request);
    Device<float> parameters(parameter_count(request.network));
    parameters.from_request();
    Device<float> logits(std::size_t(request.count) * request.network.classes);
    Device<float> workspace(logits_workspace_floats(request.network, request.groups));
    begin_workspace(workspace);
    for (std::uint32_t launched = 0; launched < request.launches; launched++) {
        logits.fill(0xff);
        const LogitsArguments arguments = {request.network, inputs.images(request), parameters.memory, logits.memory,
                                           workspace.memory};
        launch(grid(request, LENET_GROUP * request.groups, shared_bytes(request.network)),
               [&] { module.logits(arguments); });
    }
    logits.to_answer();
}

void apply(const Request &request) {
    const std::size_t set = (1 + averages_of(request.rule)) * std::size_t(request.parameters);
    Device<float> now(set), gradient(request.parameters), next(set);
    now.from_request();
    gradient.from_request();
    Rates rates;
    if (!read_bytes(&rates, sizeof rates)) {
        fail("the request ends too early");
    }
    Device<Report> report(1);
    *report.memory = {1, LENET_FINISHED};
    const ApplyArguments arguments = {now.memory,    gradient.memory, next.memory,        report.memory,
                                      request.rule, rates,           request.parameters, 0};
    launch(grid(request, request.groups, 0), [&] { lenet_apply(arguments); });
    report.to_answer();
    next.to_answer();
}

} // namespace

int main(int count, char **arguments) {
    const int taken_out = count > 1 ? std::atoi(arguments[1]) : -1;
    if (taken_out == -2) {
        forget_orderings();
    }
    take_out(taken_out);
    for (Request request; read_bytes(&request, sizeof request);) {
        switch (request.what) {
        case TRAIN: train(request); break;
        case LOGITS: compute_logits(request); break;
        case APPLY: apply(request); break;
        default: fail("no such request");
        }
        std::fflush(stdout);
    }
    for (int i = 0; count > 2 && i < std::atoi(arguments[2]); i++) {
        const std::uint32_t yes = reached(i);
        write_bytes(&yes, sizeof yes);
    }
}
