// ckptctl status.
#include <fstream>

#include "tests/cli/ckptctl_fixture.h"

namespace ckpt::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(Ckptctl, StatusShowsWhatIsUsedOfEachQuota) {
  EXPECT_THAT(Run({"status"}).output, Not(HasSubstr("quota")));
  std::ofstream(folder_ / "quota.conf")
      << "[team/**]\ndisk-bytes = 1GiB\nopen-saves = 1\n[**]\ncheckpoints = 7\n";
  StartDaemon({.flags = {"--quota-file=" + folder_ / "quota.conf"}});
  CKPT_ASSERT_OK(SaveCommitted(NewId("team/run", 1), TestState::Plain(1, 100'000), 1));
  const std::string text = Run({"status"}).output;
  EXPECT_THAT(text, HasSubstr("[team/**] 97.7 KiB of 1.0 GiB disk, 0 of 1 open save"));
  EXPECT_THAT(text, HasSubstr("[**] 0 of 7 checkpoints"));
  const Json quotas = RunJson({"status"})["quotas"];
  ASSERT_EQ(quotas.size(), 2u);
  EXPECT_EQ(quotas[0]["pattern"], "team/**");
  EXPECT_EQ(quotas[0]["disk_bytes"], 100'000);
  EXPECT_EQ(quotas[0]["disk_bytes_max"], 1 << 30);
  EXPECT_EQ(quotas[0]["checkpoints"], 1);
  EXPECT_TRUE(quotas[0]["checkpoints_max"].is_null());
}

}  // namespace
}  // namespace ckpt::testing
