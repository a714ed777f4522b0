// ckptctl over TCP.
#include <string>
#include <vector>

#include "tests/cli/ckptctl_fixture.h"

namespace ckpt::testing {
namespace {

using ::testing::HasSubstr;

TEST_F(Ckptctl, SpeaksToADaemonThatListensOnTcp) {
  StartDaemon({.flags = {"--listen=127.0.0.1:0", "--insecure-tcp"}});
  const std::string address = TcpAddress();
  const std::string flag = "--address=" + address;
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1), 1));
  EXPECT_EQ(RunJson({"run", "ls", flag}).size(), 1u);
  EXPECT_EQ(RunJson({"--address", address, "health"})["address"], address);
  const std::string out = folder_ / "out.safetensors";
  const CommandResult exported = Run({"checkpoint", "export", "run@1", out, flag});
  EXPECT_EQ(exported.exit_status, 0) << exported.errors;
  const CommandResult imported = Run({"checkpoint", "import", "base@1", out, flag});
  EXPECT_EQ(imported.exit_status, 0) << imported.errors;
  EXPECT_EQ(RunJson({"checkpoint", "verify", "base@1", flag})[0]["valid"], true);
}

TEST_F(Ckptctl, AnAddressIsToldFromASocket) {
  const CommandResult socket = Run({"run", "ls", "--socket", "127.0.0.1:1"});
  EXPECT_EQ(socket.exit_status, 2);
  EXPECT_THAT(socket.errors, HasSubstr("--address"));
  EXPECT_EQ(Run({"run", "ls", "--address", daemon().socket()}).exit_status, 2);
  EXPECT_EQ(Run({"run", "ls", "--address=h:1", "--socket=s"}).exit_status, 2);
  const CommandResult nobody = Run({"run", "ls", "--address", "127.0.0.1:1"});
  EXPECT_EQ(nobody.exit_status, 4);
  EXPECT_THAT(nobody.errors, HasSubstr("127.0.0.1:1"));
  EXPECT_THAT(nobody.errors, HasSubstr("--listen"));
}

}  // namespace
}  // namespace ckpt::testing
