#include "hub/hub.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "tandem/error.h"

namespace tandem::hub {
namespace {

namespace fs = std::filesystem;

/// A cache of its own for every test, and an environment that points nowhere else.
class HubTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::temp_directory_path() / ("tandem_hub_" + std::string(info->name()) + std::to_string(getpid()));
    fs::create_directories(root_);
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "TANDEM_MODELS"}) {
      unsetenv(name);
    }
    setenv("HOME", root_.c_str(), 1);
  }
  void TearDown() override { fs::remove_all(root_); }

  void add(const fs::path& cache, const std::string& repository, const std::string& ref, const std::string& commit) {
    fs::create_directories(cache / repository / "snapshots" / commit);
    const fs::path file = cache / repository / "refs" / ref;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << commit;
  }
  static fs::path path_of(const std::string& name) { return std::get<LocalFolder>(locate(name)).path; }
  static Code code_of(const std::string& name, std::string* message = nullptr) {
    try {
      locate(name);
    } catch (const Error& e) {
      if (message != nullptr) *message = e.what();
      return e.code();
    }
    ADD_FAILURE() << name << " was found";
    return Code::internal;
  }

  fs::path root_;
};

TEST_F(HubTest, RandomModels) {
  const auto plain = std::get<RandomModel>(locate("random:ViT-B-32"));
  EXPECT_EQ(plain.architecture, "ViT-B-32");
  EXPECT_EQ(plain.seed, 0u);
  EXPECT_EQ(std::get<RandomModel>(locate("random:ViT-L-14:18446744073709551615")).seed, ~std::uint64_t{0});
  EXPECT_EQ(code_of("random:ViT-B-32:x"), Code::invalid_argument);
  EXPECT_EQ(code_of("random:ViT-B-32:"), Code::invalid_argument);
  EXPECT_EQ(code_of("random:ViT-B-32:-1"), Code::invalid_argument);
}

TEST_F(HubTest, FoldersComeFirst) {
  fs::create_directories(root_ / "here");
  EXPECT_EQ(path_of((root_ / "here").string()), root_ / "here");
  EXPECT_EQ(path_of("~/here"), root_ / "here");
  std::ofstream(root_ / "file.safetensors") << "x";
  EXPECT_EQ(code_of((root_ / "file.safetensors").string()), Code::invalid_argument);
}

TEST_F(HubTest, CacheOrder) {
  const struct {
    const char* variable;
    const char* value;
    const char* hub;
  } places[] = {{nullptr, nullptr, ".cache/huggingface/hub"},
                {"XDG_CACHE_HOME", "xdg", "xdg/huggingface/hub"},
                {"HF_HOME", "home", "home/hub"},
                {"HUGGINGFACE_HUB_CACHE", "old", "old"},
                {"HF_HUB_CACHE", "new", "new"}};
  for (const auto& place : places) {  // each one set on top of those before wins
    if (place.variable != nullptr) setenv(place.variable, (root_ / place.value).c_str(), 1);
    EXPECT_EQ(cache_folder(), root_ / place.hub);
    EXPECT_EQ(code_of("org/name"), Code::not_found);
    add(root_ / place.hub, "models--org--name", "main", "abc123");
    EXPECT_EQ(path_of("org/name"), root_ / place.hub / "models--org--name/snapshots/abc123");
  }
  setenv("HF_HUB_CACHE", "", 1);  // empty is not set
  EXPECT_EQ(cache_folder(), root_ / "old");
}

TEST_F(HubTest, RevisionsAndCanonicalNames) {
  setenv("HF_HUB_CACHE", root_.c_str(), 1);
  add(root_, "models--org--name", "main", "aaa");
  add(root_, "models--org--name", "refs/pr/1", "bbb");
  add(root_, "models--canonical", "main", "ccc");
  EXPECT_EQ(path_of("org/name@refs/pr/1").filename(), "bbb");
  EXPECT_EQ(path_of("org/name@bbb").filename(), "bbb");
  EXPECT_EQ(path_of("canonical").filename(), "ccc");
  std::string message;
  EXPECT_EQ(code_of("org/name@v9", &message), Code::not_found);
  EXPECT_NE(message.find("hf download org/name --revision v9"), std::string::npos) << message;
}

TEST_F(HubTest, NamesCannotLeaveTheCache) {
  setenv("HF_HUB_CACHE", (root_ / "cache").c_str(), 1);
  fs::create_directories(root_ / "cache/models--org--name/refs");
  fs::create_directories(root_ / "cache/models--org--name/snapshots");
  fs::create_directories(root_ / "secret");
  std::ofstream(root_ / "cache/models--org--name/refs/main") << "../../../secret";
  for (const char* name : {"org/name", "org/name@../../../secret", "../secret", "org/../secret", "a/b/c", "org//name",
                           "org/name@", ".hidden/name", "org--name", "org/na me", "org/name\n", "/nowhere", "x/"}) {
    EXPECT_EQ(code_of(name), Code::not_found) << name;
  }
  EXPECT_EQ(code_of(""), Code::invalid_argument);
}

TEST_F(HubTest, MissingModelsSayWhatToDo) {
  std::string message;
  EXPECT_EQ(code_of("openai/clip-vit-base-patch32", &message), Code::not_found);
  EXPECT_NE(message.find("hf download openai/clip-vit-base-patch32"), std::string::npos) << message;
  EXPECT_NE(message.find(root_.string()), std::string::npos) << message;
}

TEST_F(HubTest, BundledModels) {
  fs::create_directories(root_ / "models/emoji");
  setenv("TANDEM_MODELS", (root_ / "models").c_str(), 1);
  const auto found = std::get<LocalFolder>(locate("emoji"));
  EXPECT_TRUE(found.bundled);
  EXPECT_EQ(found.path, root_ / "models/emoji");
}

}  // namespace
}  // namespace tandem::hub
