//! `modalign train`

use std::num::NonZeroUsize;
use std::path::Path;

use modalign::data::Dataset;
use modalign::encoders::Modality;
use modalign::train::{self, Experiment, ExperimentConfig, Observer, TrainError, Variant};

use crate::arguments::{DataArgument, RunArguments, SettingsArguments, Train, VariantArguments};
use crate::error::CliError;
use crate::files::{self, CONFIG, LOG, REPORT, checkpoint_name};
use crate::folder::{RunFolder, print};
use crate::input::Input;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::states::{self, States};
use crate::{keys, settings, table};

pub fn run(arguments: &Train) -> Result<(), CliError> {
    match &arguments.resume.resume {
        Some(folder) => resume(arguments, folder),
        None => begin(arguments),
    }
}

fn begin(arguments: &Train) -> Result<(), CliError> {
    let (config, input) = prepare(&arguments.settings, &arguments.data)?;
    let config = reduce(config, &arguments.variant);
    config.validate()?;
    use_threads(&arguments.run)?;
    if arguments.check_gradients {
        return check_gradients(&config, &input.dataset);
    }

    let folder = RunFolder::create(arguments.run.output.as_deref(), input.stem())?;
    let folds = arguments.run.folds;
    let data = arguments.data.data.as_deref();
    let begun = folder
        .write(CONFIG, keys::to_toml(&config).as_bytes())
        .and_then(|()| states::begin(&folder, &config, &input.name, data, folds));
    if let Err(error) = begun {
        folder.remove();
        return Err(error);
    }
    go_on(arguments, folder, &config, &input, folds)
}

/// Prints each comparison, then fails with the first that differs.
fn check_gradients(config: &ExperimentConfig, dataset: &Dataset) -> Result<(), CliError> {
    let checked = train::check_gradients(config, dataset)?;
    print(&table::gradient_table(&checked))?;
    match checked.into_iter().find(|one| !one.agrees()) {
        None => Ok(()),
        Some(one) => Err(CliError::Gradient {
            allowed: one.allowed(),
            parameter: one.parameter,
            analytic: one.analytic,
            numeric: one.numeric,
        }),
    }
}

fn resume(arguments: &Train, path: &Path) -> Result<(), CliError> {
    let folder = RunFolder::reopen(path)?;
    let Some(identity) = states::identity(&folder, arguments.data.data.as_deref())? else {
        return print(&format!(
            "{}: this training has ended, there is nothing to go on with\n",
            path.display()
        ));
    };
    let data = identity.data.as_ref().map(|data| data.path.as_path());
    let mut input = Input::load(data, &identity.config)?;
    input.name = identity.data_name;
    use_threads(&arguments.run)?;
    go_on(arguments, folder, &identity.config, &input, identity.folds)
}

/// Trains from the beginning, or from the states that are in the folder.
fn go_on(
    arguments: &Train,
    folder: RunFolder,
    config: &ExperimentConfig,
    input: &Input,
    folds: Option<usize>,
) -> Result<(), CliError> {
    let progress = Progress::new(arguments.run.quiet, Some(folder.log(LOG)?));
    let steps = arguments.resume.keep_every.map(NonZeroUsize::get);
    let states = States::open(&folder, steps, &progress)?;
    states::listen()?;
    introduce(&progress, input, config);
    let experiment = match experiment(config, &input.dataset, folds, &states) {
        Ok(experiment) => experiment,
        Err(TrainError::Interrupted { .. }) => {
            let path = folder.path().to_owned();
            return Err(CliError::Interrupted { path });
        }
        Err(error @ TrainError::Diverged { .. }) => {
            return Err(diverged(folder, &progress, error));
        }
        Err(error) if states.has_any() => return Err(stopped(&folder, &progress, error.into())),
        Err(error) if arguments.resume.resume.is_some() => return Err(error.into()),
        Err(error) => return Err(give_up(folder, &progress, error)),
    };
    let outcome = Outcome::new(config, &input.name, &experiment)?;
    if let Err(error) = files::write(&folder, &outcome) {
        return Err(stopped(&folder, &progress, error));
    }
    states.remove()?;
    progress.finish(&folder.file(LOG))?;

    let mut text = table::outcome_table(&outcome);
    text.push_str(&places(folder.path()));
    print(&text)
}

/// The data and the configuration that suits it.
pub fn prepare(
    settings: &SettingsArguments,
    data: &DataArgument,
) -> Result<(ExperimentConfig, Input), CliError> {
    let config = settings::resolve(settings, &[])?;
    let input = Input::load(data.data.as_deref(), &config)?;
    let vectors: Vec<_> = config
        .modalities_in_use()
        .filter(|&modality| {
            let key = &config.modality(modality).features;
            let extent = input.dataset.train.extent(key);
            extent.is_some_and(|[steps, _]| steps == 1)
        })
        .collect();
    Ok((settings::resolve(settings, &vectors)?, input))
}

fn reduce(config: ExperimentConfig, arguments: &VariantArguments) -> ExperimentConfig {
    let chosen = [
        (arguments.text_only, Variant::TextOnly),
        (
            arguments.no_shared_information,
            Variant::NoSharedInformation,
        ),
        (arguments.no_label_generator, Variant::NoLabelGenerator),
    ];
    chosen
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .fold(config, |config, (_, variant)| variant.apply(&config))
}

/// Runs on as many threads as were asked for, from here to the end of the program.
pub fn use_threads(arguments: &RunArguments) -> Result<(), CliError> {
    let Some(threads) = arguments.threads else {
        return Ok(());
    };
    let refuse = |reason: String| CliError::Threads { threads, reason };
    if threads == 0 {
        return Err(refuse("at least one is needed".to_owned()));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| refuse(error.to_string()))
}

/// Says what is trained on.
pub fn introduce(progress: &Progress, input: &Input, config: &ExperimentConfig) {
    let Dataset { train, valid, test } = &input.dataset;
    let features: Vec<_> = config
        .data
        .modalities
        .iter()
        .map(|&modality| {
            if let (Modality::Text, Some(text)) = (modality, &config.text_model) {
                return format!("text by {}", text.folder.display());
            }
            let key = &config.modality(modality).features;
            match train.extent(key) {
                Some([steps, width]) => {
                    let place = match train.file_features.contains_key(key) {
                        true => ", in the file",
                        false => "",
                    };
                    format!("{key} {steps} × {width}{place}")
                }
                None => format!("{key} (absent)"),
            }
        })
        .collect();
    progress.note(&format!(
        "{}: {} training, {} validation and {} test rows; {}",
        input.name,
        train.len(),
        valid.len(),
        test.len(),
        features.join(", ")
    ));
    for warning in input.warnings() {
        progress.note(&warning);
    }
}

pub fn experiment(
    config: &ExperimentConfig,
    dataset: &Dataset,
    folds: Option<usize>,
    observer: &dyn Observer,
) -> Result<Experiment, TrainError> {
    match folds {
        Some(folds) => train::cross_validate(config, dataset, folds, observer),
        None => train::run(config, dataset, observer),
    }
}

/// Every run has kept a state to go on from.
fn stopped(folder: &RunFolder, progress: &Progress, error: CliError) -> CliError {
    progress.note(&format!("stopped: {error}"));
    CliError::Stopped {
        path: folder.path().to_owned(),
        error: Box::new(error),
    }
}

/// Going on would diverge again; the model from before is of use.
fn diverged(folder: RunFolder, progress: &Progress, error: TrainError) -> CliError {
    if let TrainError::Diverged { run, .. } = &error {
        let best = folder.file(&checkpoint_name(run));
        if best.is_file() {
            progress.note(&format!("stopped: {error}"));
            let error = Box::new(error);
            return CliError::Diverged { best, error };
        }
    }
    give_up(folder, progress, error)
}

/// After a training that diverged, the log is worth keeping; what was refused leaves nothing.
pub fn give_up(folder: RunFolder, progress: &Progress, error: TrainError) -> CliError {
    let error = CliError::from(error);
    if error.exit_code() == 1 {
        progress.note(&format!("stopped: {error}"));
    } else {
        folder.remove();
    }
    error
}

fn places(folder: &Path) -> String {
    format!(
        "\nrun folder  {}\nreport      {}\n",
        folder.display(),
        folder.join(REPORT).display()
    )
}
