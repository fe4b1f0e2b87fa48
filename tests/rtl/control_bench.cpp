// Runs programs on several controls at once, with stand-in units and a memory of fixed latency, and writes down when
// every command was dispatched, started and ended. test_control.py writes pins.h and the programs, and judges.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "Vcontrols.h"
#include "verilated.h"

using Word = uint32_t;
constexpr int WORDS = 32, UNITS = 4, STORE = 3, BARRIER = 4;

struct Command {
  Word words[WORDS];
  int64_t occupancy, tail, dispatch = -1, start = -1, end = -1;
  int unit() const { return words[0] & 7; }
};

// Inputs and outputs of one control in one cycle.
struct Inputs {
  bool start = false, ready[UNITS] = {}, idle[UNITS] = {}, request_ready = true, beat = false, error = false;
  Word post[UNITS] = {}, address = 0, commands = 0, data[WORDS] = {};
};
struct Outputs {
  bool busy, done, dispatched, valid[UNITS], request;
  Word error, error_index, address, command[UNITS][WORDS];
  uint64_t cycles;
};

template <class T> void put(T& pin, const Word* words, int bits, bool error) {
  if constexpr (std::is_integral_v<T>) {
    uint64_t value = words[0] | (bits > 32 ? uint64_t(words[1]) << 32 : 0);
    pin = (value & ((uint64_t(1) << bits) - 1)) | uint64_t(error) << bits;
  } else {
    for (int i = 0; i < bits / 32; ++i) pin[i] = words[i];
    pin[bits / 32] = error;
  }
}

template <class T> void get(const T& pin, Word* words) {
  for (int i = 0; i < WORDS; ++i) words[i] = pin[i];
}

struct Port {
  virtual ~Port() = default;
  virtual void set(const Inputs&) = 0;
  virtual void set_posts(const Inputs&) = 0;
  virtual Outputs read() const = 0;
};

#include "pins.h"  // struct Pins…: Port, one for each control; ports(top); PACES and LATENCIES

struct Unit {
  int64_t free_at = 0, quiet_at = 0;
  std::vector<std::pair<int64_t, Word>> posts;  // cycle of the pulse, mask
  size_t next = 0;
  std::vector<size_t> commands;
};

class Bench {
 public:
  Bench(std::unique_ptr<Port> port, int pace, int latency, bool stalls, std::istream& in, FILE* out)
      : port_(std::move(port)), pace_(pace), latency_(latency), stalls_(stalls), out_(out) {
    int64_t count, commands, bad;
    read(in, &count, 1);
    while (count--) {
      read(in, &commands, 1);
      read(in, &bad, 1);  // command whose fetch fails, or -1
      bad_.push_back(bad);
      programs_.emplace_back(commands);
      for (Command& c : programs_.back()) {
        in.read(reinterpret_cast<char*>(c.words), sizeof c.words);
        read(in, &c.occupancy, 1);
        read(in, &c.tail, 1);
      }
    }
  }
  bool over() const { return program_ == programs_.size(); }

  void drive() {
    inputs_ = {};
    if (!running_) {  // the start is in the cycle before cycle 0
      if (over()) {
        for (bool& idle : inputs_.idle) idle = true;
        port_->set(inputs_);
        return;
      }
      begin();
    }
    auto& in = inputs_;
    for (int u = 0; u < UNITS; ++u) {
      in.ready[u] = units_[u].free_at <= now_;
      in.idle[u] = units_[u].quiet_at <= now_;
    }
    in.request_ready = !stalls_ || chance() % 3;
    if (!beats_.empty() && beats_.front().first <= now_ && (!stalls_ || chance() % 4 == 0)) {
      size_t beat = beats_.front().second;
      beats_.pop_front();
      const size_t bits = 8 * 128 / pace_;
      in.beat = true;
      in.error = int64_t(beat / pace_) == bad_[program_];
      const Word* words = commands_[beat / pace_].words;
      const size_t from = beat % pace_ * bits;
      if (bits < 32)
        in.data[0] = words[from / 32] >> from % 32 & ((1u << bits) - 1);
      else
        std::copy(words + from / 32, words + (from + bits) / 32, in.data);
    }
    port_->set(in);
  }

  // Look at the cycle when everything is settled but the posts, and post what is to be posted in it.
  void look() {
    if (!running_) return;
    const Outputs out = port_->read();
    if (out.request && inputs_.request_ready && now_ >= 0) {
      require(out.address == ADDRESS + 128 * requested_, "wrong fetch address");
      require(requested_ < commands_.size(), "fetch beyond the end");
      require(stalls_ || beats_.empty() || beats_.back().first < now_ + latency_, "requests too close");
      for (int b = 0; b < pace_; ++b) beats_.emplace_back(now_ + latency_ + b, requested_ * pace_ + b);
      ++requested_;
    }
    if (out.dispatched) {
      require(dispatched_ < commands_.size(), "dispatched beyond the end");
      Command& c = commands_[dispatched_++];
      c.dispatch = now_;
      if (c.unit() == BARRIER) c.start = c.end = now_;
    }
    for (int u = 0; u < UNITS; ++u) {
      if (out.valid[u] && inputs_.ready[u]) start(u, out.command[u]);
      for (const auto& [at, mask] : units_[u].posts)
        if (at == now_) {
          require(!(inputs_.post[u] & mask), "a unit posts two tokens of one semaphore in one cycle");
          inputs_.post[u] |= mask;
        }
      auto& posts = units_[u].posts;
      posts.erase(std::remove_if(posts.begin(), posts.end(), [&](auto& p) { return p.first <= now_; }), posts.end());
    }
    port_->set_posts(inputs_);
  }

  // The clock has risen.
  void step() {
    if (!running_) return;
    ++now_;
    const Outputs out = port_->read();
    if (now_ > 0 && !out.busy) finish(out);
    else require(now_ < MOST, "it hangs");
  }

 private:
  static constexpr Word ADDRESS = 0x1000;
  static constexpr int64_t MOST = 3'000'000;

  void begin() {
    commands_ = programs_[program_];
    for (Unit& u : units_) u = {};
    for (size_t c = 0; c < commands_.size(); ++c)
      if (commands_[c].unit() < UNITS) units_[commands_[c].unit()].commands.push_back(c);
    now_ = -1;
    requested_ = dispatched_ = 0;
    beats_.clear();
    running_ = inputs_.start = true;
    inputs_.address = ADDRESS;
    inputs_.commands = commands_.size();
  }

  void start(int u, const Word* words) {
    Unit& unit = units_[u];
    require(unit.next < unit.commands.size(), "a unit has no such command");
    Command& c = commands_[unit.commands[unit.next++]];
    require(std::equal(words, words + WORDS, c.words), "a unit got another command");
    c.start = now_;
    c.end = now_ + c.occupancy + c.tail;
    unit.free_at = now_ + c.occupancy;
    unit.quiet_at = std::max(unit.quiet_at, c.end);
    if (Word mask = c.words[1] >> 16) unit.posts.emplace_back((u == STORE ? std::min(unit.free_at + 3, c.end) : c.end) - 1, mask);
  }

  void finish(const Outputs& out) {
    const int64_t head[] = {out.done, out.error, out.error_index, int64_t(out.cycles), now_};
    fwrite(head, 8, 5, out_);
    for (const Command& c : commands_) {
      const int64_t times[] = {c.dispatch, c.start, c.end};
      fwrite(times, 8, 3, out_);
    }
    running_ = false;
    ++program_;
  }

  void require(bool holds, const char* what) const {
    if (!holds)
      throw std::runtime_error(std::string(what) + ", program " + std::to_string(program_) + ", cycle " + std::to_string(now_));
  }
  static void read(std::istream& in, int64_t* to, int n) { in.read(reinterpret_cast<char*>(to), 8 * n); }
  Word chance() { return (seed_ = seed_ * 1664525 + 1013904223) >> 16; }

  std::unique_ptr<Port> port_;
  int pace_, latency_;
  bool stalls_, running_ = false;
  FILE* out_;
  Inputs inputs_;
  std::vector<std::vector<Command>> programs_;
  std::vector<int64_t> bad_;
  std::vector<Command> commands_;
  size_t program_ = 0, requested_ = 0, dispatched_ = 0;
  int64_t now_ = -1;
  Word seed_ = 1;
  Unit units_[UNITS];
  std::deque<std::pair<int64_t, size_t>> beats_;
};

// controls FOLDER [stalls]: reads FOLDER/N.in and writes FOLDER/N.out for control N.
int main(int argc, char** argv) {
  VerilatedContext context;
  Vcontrols top{&context};
  const std::string folder = argv[1];
  std::vector<std::unique_ptr<Bench>> benches;
  std::vector<FILE*> files;
  auto all = ports(top);
  for (size_t i = 0; i < all.size(); ++i) {
    std::ifstream in(folder + "/" + std::to_string(i) + ".in", std::ios::binary);
    files.push_back(fopen((folder + "/" + std::to_string(i) + ".out").c_str(), "wb"));
    benches.push_back(std::make_unique<Bench>(std::move(all[i]), PACES[i], LATENCIES[i], argc > 2, in, files[i]));
  }
  top.rst = 1;
  for (top.clk = 0; top.clk < 2; ++top.clk) top.eval();
  top.rst = 0;
  top.clk = 0;
  int64_t cycles = 0;
  try {
    while (!std::all_of(benches.begin(), benches.end(), [](auto& b) { return b->over(); })) {
      for (auto& b : benches) b->drive();
      top.eval();
      for (auto& b : benches) b->look();
      top.clk = 0;
      top.eval();
      top.clk = 1;
      top.eval();
      for (auto& b : benches) b->step();
      top.clk = 0;
      ++cycles;
    }
  } catch (const std::exception& e) {
    printf("%s\n", e.what());
    return 1;
  }
  for (FILE* f : files) fclose(f);
  printf("%lld cycles\n", static_cast<long long>(cycles));
}
