#include "server/access/gatekeeper.h"

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/daemon.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Caller::Way kSocket = Caller::Way::kUnixSocket;
constexpr Caller::Way kTcp = Caller::Way::kTcp;

class GatekeeperTest : public ::testing::Test {
 protected:
  GatekeeperTest() {
    std::ofstream(path_) << absl::BytesToHexString(Sha256("secret")) << " team-a team-a/** write\n";
  }
  std::unique_ptr<Gatekeeper> Open(std::optional<Verb> socket_rights, bool tokens,
                                   bool tcp = true) {
    auto gatekeeper = Gatekeeper::Open({.socket_rights = socket_rights,
                                        .token_file = tokens ? path_ : std::string(),
                                        .tcp = tcp});
    EXPECT_TRUE(gatekeeper.ok()) << gatekeeper.status();
    return *std::move(gatekeeper);
  }
  static std::string Unauthenticated(Gatekeeper& gatekeeper, Caller::Way way,
                                     std::vector<absl::string_view> authorization = {}) {
    const auto rights = gatekeeper.Admit({way, std::move(authorization)});
    EXPECT_EQ(rights.status().code(), absl::StatusCode::kUnauthenticated);
    return std::string(rights.status().message());
  }

  testing::ScratchFolder scratch_;
  const std::string path_ = scratch_ / "tokens";
};

TEST_F(GatekeeperTest, TheSocketGivesItsRightsToWhoBringsNoToken) {
  const auto rights = Open(Verb::kRead, false)->Admit({kSocket, {}});
  ASSERT_TRUE(rights.ok()) << rights.status();
  EXPECT_TRUE((*rights)->MayEverywhere(Verb::kRead));
  EXPECT_FALSE((*rights)->MaySomewhere(Verb::kWrite));
}

TEST_F(GatekeeperTest, TcpGivesNothingWhereItIsNotServed) {
  Unauthenticated(*Open(Verb::kAdmin, false, /*tcp=*/false), kTcp);
}

TEST_F(GatekeeperTest, ASocketWithoutRightsAsksForAToken) {
  const auto gatekeeper = Open(std::nullopt, true);
  EXPECT_THAT(Unauthenticated(*gatekeeper, kSocket),
              AllOf(HasSubstr("CKPTD_TOKEN"), HasSubstr("Bearer"), HasSubstr("socket")));
  const auto rights = gatekeeper->Admit({kSocket, {"Bearer secret"}});
  ASSERT_TRUE(rights.ok()) << rights.status();
  EXPECT_EQ((*rights)->name(), "token team-a");
}

TEST_F(GatekeeperTest, ATokensRightsAreItsOwnWhateverTheSocketGives) {
  const auto rights = Open(Verb::kAdmin, true)->Admit({kSocket, {"bearer secret"}});
  ASSERT_TRUE(rights.ok()) << rights.status();
  EXPECT_TRUE((*rights)->May(Verb::kWrite, "team-a/x"));
  EXPECT_FALSE((*rights)->May(Verb::kRead, "team-b/x"));
}

TEST_F(GatekeeperTest, TcpNeedsATokenWhereThereAreTokens) {
  EXPECT_THAT(Unauthenticated(*Open(Verb::kAdmin, true), kTcp), HasSubstr("TCP"));
  EXPECT_TRUE(Open(Verb::kAdmin, true)->Admit({kTcp, {"Bearer secret"}}).ok());
  const auto without = Open(std::nullopt, false)->Admit({kTcp, {}});
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_TRUE((*without)->MayEverywhere(Verb::kAdmin));
}

TEST_F(GatekeeperTest, AnUnknownTokenIsRefusedOnEveryWay) {
  for (const Caller::Way way : {kSocket, kTcp}) {
    EXPECT_THAT(Unauthenticated(*Open(Verb::kAdmin, true), way, {"Bearer wrong"}),
                HasSubstr("not in the daemon's --token-file"));
    EXPECT_THAT(Unauthenticated(*Open(Verb::kAdmin, false), way, {"Bearer secret"}),
                HasSubstr("knows no tokens"));
    for (const std::vector<absl::string_view>& odd :
         {std::vector<absl::string_view>{"secret"}, {"Basic c2VjcmV0"}, {""}, {"Bearer"},
          {"Bearer secret", "Bearer secret"}}) {
      Unauthenticated(*Open(Verb::kAdmin, true), way, odd);
    }
  }
}

}  // namespace
}  // namespace ckpt
