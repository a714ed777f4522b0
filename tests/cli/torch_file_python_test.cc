// torch.save and torch.load of PyTorch's Python, and ckptctl between them: what Python saved is
// imported, exported for torch.load and as safetensors, and Python finds what it had.
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/fixtures/process.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kPython[] = "/usr/bin/python3";

class TorchPython : public IntegrationTest {
 protected:
  CommandResult Run(std::vector<std::string> words) {
    absl::StatusOr<CommandResult> result =
        RunCommand(words, {{"CKPTD_SOCKET", daemon().socket()}}, absl::Minutes(2));
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }
  CommandResult Ckptctl(std::vector<std::string> words) {
    words.insert(words.begin(), {BuiltBinary("ckptctl"), "checkpoint"});
    return Run(words);
  }
  void Python(std::vector<std::string> words) {
    words.insert(words.begin(), {kPython, absl::StrCat(CKPT_PYTHON_SCRIPTS, "/torch_states.py")});
    const CommandResult result = Run(words);
    EXPECT_EQ(result.exit_status, 0) << absl::StrJoin(words, " ") << "\n" << result.errors;
  }
  void Ok(const CommandResult& result) { EXPECT_EQ(result.exit_status, 0) << result.errors; }
  ScratchFolder folder_;
};

struct RoundTrip {
  const char* state;
  const char* protocol;
  bool weights_only;  // Debian's PyTorch knows neither floats nor bytes there
};

void PrintTo(const RoundTrip& trip, std::ostream* out) { *out << trip.state << trip.protocol; }

class TorchRoundTrip : public TorchPython, public ::testing::WithParamInterface<RoundTrip> {};

TEST_P(TorchRoundTrip, TheSameStateComesBack) {
  const std::string in = folder_ / "in.pt";
  const std::string out = folder_ / "out.pt";
  Python({"save", GetParam().state, in, GetParam().protocol});
  Ok(Ckptctl({"import", "trip@1", in}));
  Ok(Ckptctl({"export", "trip@1", out}));
  if (GetParam().weights_only) Python({"check", GetParam().state, out});
  Python({"check_any", GetParam().state, out});
  Ok(Ckptctl({"export", "trip@1", folder_ / "out.safetensors"}));
  Python({"check_safetensors", GetParam().state, folder_ / "out.safetensors"});
  // What we wrote is read by us as well, and stays the same.
  Ok(Ckptctl({"import", "again@1", out}));
  Ok(Ckptctl({"export", "again@1", folder_ / "again.pt"}));
  EXPECT_TRUE(ReadWholeFile(out) == ReadWholeFile(folder_ / "again.pt"));
}

// `many` has more entries than a zip archive without 64-bit fields can.
INSTANTIATE_TEST_SUITE_P(All, TorchRoundTrip,
                         ::testing::Values(RoundTrip{"tensors", "2", true},
                                           RoundTrip{"tensors", "3", true},
                                           RoundTrip{"tensors", "4", true},
                                           RoundTrip{"training", "2", false},
                                           RoundTrip{"training", "4", false},
                                           RoundTrip{"flat", "2", true},
                                           RoundTrip{"many", "2", true}),
                         [](const auto& info) {
                           return absl::StrCat(info.param.state, info.param.protocol);
                         });

TEST_F(TorchPython, APartOfAStateIsExportedToo) {
  Python({"save", "training", folder_ / "in.pt"});
  Ok(Ckptctl({"import", "trip@1", folder_ / "in.pt"}));
  Ok(Ckptctl({"export", "trip@1", folder_ / "model.pt", "-i", "model.**"}));
  const std::string script =
      absl::StrCat("import sys, torch; sys.path.insert(0, '", CKPT_PYTHON_SCRIPTS,
                   "'); import torch_states; loaded = torch.load('", folder_ / "model.pt",
                   "', weights_only=True); assert list(loaded) == ['model'], list(loaded); "
                   "torch_states.compare(dict(torch_states.training()['model']), loaded['model'])");
  Ok(Run({kPython, "-c", script}));
  // A list whose first items are gone would have other positions.
  const CommandResult holes = Ckptctl(
      {"export", "trip@1", folder_ / "holes.pt", "-x", "sgd.param_groups.0.params.0"});
  EXPECT_EQ(holes.exit_status, 2);
  EXPECT_THAT(holes.errors, HasSubstr("sgd.param_groups.0.params.0"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "holes.pt"));
}

TEST_F(TorchPython, SlicesAreExportedToo) {
  Python({"save", "tensors", folder_ / "in.pt"});
  Ok(Ckptctl({"import", "trip@1", folder_ / "in.pt"}));
  const std::pair<const char*, const char*> slices[] = {
      {"parameter", "0:2,:"},    {"tied", "0:2,:"},    {"tied_again", "1:3,2:4"},
      {"transposed", "1:3,-2:"}, {"columns", ":,1:3"}, {"bfloat16", "-2:"},
      {"complex64", "1:2,:"},    {"bool", "0:1"},      {"permuted", "1:3,:,1:,0:1"}};
  std::vector<std::string> words = {"export", "trip@1", folder_ / "cut.pt"};
  std::vector<std::string> cuts;
  for (const auto& [key, ranges] : slices) {
    words.insert(words.end(), {"--slice", absl::StrCat(key, "[", ranges, "]")});
    cuts.push_back(absl::StrCat("'", key, "': saved['", key, "'][", ranges, "]"));
  }
  Ok(Ckptctl(words));
  const std::string script = absl::StrCat(
      "import sys, torch; sys.path.insert(0, '", CKPT_PYTHON_SCRIPTS,
      "'); import torch_states; saved = torch_states.tensors(); wanted = {",
      absl::StrJoin(cuts, ", "), "}\n",
      "loaded = torch.load('", folder_ / "cut.pt", "', weights_only=True)\n",
      "torch_states.compare(wanted, {key: loaded[key] for key in wanted})\n",
      "assert len(loaded) == len(wanted), list(loaded)\n",
      "assert loaded['tied'].data_ptr() == loaded['parameter'].data_ptr()\n",
      "for name, tensor in loaded.items():\n",
      "    assert len(tensor.storage()) == tensor.numel(), name\n");
  Ok(Run({kPython, "-c", script}));
}

// The names that the common libraries give to a model cut into several torch.save files.
TEST_F(TorchPython, ShardsWithAnIndexAreImported) {
  const std::string script = absl::StrCat(
      "import json, sys, torch; sys.path.insert(0, '", CKPT_PYTHON_SCRIPTS,
      "'); import torch_states; state = torch_states.flat(); names = list(state); cut = 3\n"
      "for i, part in enumerate((names[:cut], names[cut:])):\n"
      "    torch.save({n: state[n] for n in part}, f'", folder_ / "part",
      "{i}.bin')\n"
      "map = {n: f'part{int(i >= cut)}.bin' for i, n in enumerate(names)}\n"
      "json.dump({'weight_map': map}, open('", folder_ / "pytorch_model.bin.index.json",
      "', 'w'))\n");
  Ok(Run({kPython, "-c", script}));
  Ok(Ckptctl({"import", "parts@1", folder_.path()}));
  Ok(Ckptctl({"export", "parts@1", folder_ / "whole.pt"}));
  Python({"check", "flat", folder_ / "whole.pt"});
}

TEST_F(TorchPython, WhatIsNoPlainStateIsRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"torch.nn.Linear(1, 1)", "torch.nn.modules.linear.Linear"},
      {"{'x': torch.ones(2).to_sparse()}", "torch._utils._rebuild_sparse_tensor"},
      {"{'x': torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8)}",
       "torch._utils._rebuild_qtensor"},
      {"{'x': {1, 2}}", "set"},
      {"{'x': object()}", "object"},
      {"{'x': torch.ones(1, dtype=torch.complex128)}", "torch.ComplexDoubleStorage"},
      {"{'x': __import__('numpy').float64(1)}", "numpy.core.multiarray.scalar"},
      {"{'x': 2**70}", "more than 64 bits"},
      {"{(1, 2): 3}", "key is a list or a tuple"},
      {"[torch.ones(1)]", "not a dictionary"}};
  for (const auto& [state, name] : cases) {
    const std::string path = folder_ / "odd.pt";
    Ok(Run({kPython, "-c", absl::StrCat("import torch; torch.save(", state, ", '", path, "')")}));
    const CommandResult result = Ckptctl({"import", "odd@1", path});
    EXPECT_EQ(result.exit_status, 2) << state;
    EXPECT_THAT(result.errors, HasSubstr(name)) << state;
  }
  const std::string old = folder_ / "old.pt";
  Ok(Run({kPython, "-c",
          absl::StrCat("import torch; torch.save({'x': torch.ones(1)}, '", old,
                       "', _use_new_zipfile_serialization=False)")}));
  EXPECT_THAT(Ckptctl({"import", "odd@1", old}).errors, HasSubstr("before PyTorch 1.6"));
  const std::string script = folder_ / "script.pt";
  Ok(Run({kPython, "-c",
          absl::StrCat("import torch; torch.jit.script(torch.nn.Linear(1, 1)).save('", script,
                       "')")}));
  EXPECT_THAT(Ckptctl({"import", "odd@1", script}).errors, HasSubstr("a TorchScript archive"));
  EXPECT_TRUE(List("odd", true).empty());
}

}  // namespace
}  // namespace ckpt::testing
