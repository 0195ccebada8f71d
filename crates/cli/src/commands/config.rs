//! `modalign config`

use modalign::train::ExperimentConfig;

use crate::arguments::Config;
use crate::error::CliError;
use crate::folder::print;
use crate::keys::to_toml;

pub fn run(arguments: &Config) -> Result<(), CliError> {
    let config = ExperimentConfig::recipe(arguments.recipe.into(), arguments.preset.into());
    print(&to_toml(&config))
}
